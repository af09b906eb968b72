"""What training writes down: every step in a CSV file, and the same for TensorBoard."""

import csv
from typing import Any, Self, TextIO

import numpy as np
import torch
from torch import Tensor

from tripletlib.distances import Metric, pairwise_distances
from tripletlib.runtime import (
    AnyPath,
    atomic_write,
    explained_writing,
    from_repository,
    optional_package,
)

PERCENTILES = (0, 5, 50, 95, 100)
MEAN_LOSS_EVERY = 100  # steps
COLUMNS = (
    "step",
    "learning_rate",
    "loss",
    "active_fraction",
    f"mean_loss_{MEAN_LOSS_EVERY}",
    *(f"{spread}_p{p}" for spread in ("norm", "entry", "distance") for p in PERCENTILES),
)


class History:
    """The log of a training, in memory and, given a folder, on disk.

    Columns: `step`, `learning_rate`, `loss` and `active_fraction` at every step; `mean_loss_100`,
    the mean loss of the last 100 steps, at every 100th; at every 10th step the 0, 5, 50, 95 and 100
    percentiles over the batch of the embeddings' norms (`norm_p0` ...) and entries (`entry_p0` ...)
    and of all pairwise distances (`distance_p0` ...). A cell without a value is empty in the file
    and NaN in memory.

    Args:
        folder: run folder for `history.csv` and `tensorboard/`, a relative one from the repository;
            None writes nothing.
        rows: the log so far, as `rows` gave it; what the files hold beyond it is removed.

    Raises:
        OSError: a file cannot be written; the message names it and the way out.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), appendix D, for the percentiles; the original
        TensorFlow project for the rest.
    """

    detail_every = 10  # steps between two rows with percentiles

    def __init__(self, folder: AnyPath | None = None, rows: Tensor | None = None) -> None:
        self._rows: list[list[float]] = [] if rows is None else rows.tolist()
        self._file: TextIO | None = None
        self._board: Any = None
        if folder is not None:
            run_folder = from_repository(folder)
            self._path, self._board_folder = run_folder / "history.csv", run_folder / "tensorboard"
            try:
                self._open()
            except OSError:
                self.close()
                raise

    def _open(self) -> None:
        with explained_writing(self._board_folder):
            if not self._rows:  # an earlier run's events would be drawn into the same curves
                for file in self._board_folder.glob("events.out.tfevents.*"):
                    file.unlink()
            board = optional_package("torch.utils.tensorboard", "the log goes to history.csv only")
            if board is not None:
                folder, first = str(self._board_folder), len(self._rows) + 1
                self._board = board.SummaryWriter(folder, purge_step=first)
        with explained_writing(self._path):
            with (
                atomic_write(self._path) as unfinished,
                unfinished.open("w", newline="", encoding="utf-8") as stream,
            ):
                csv.writer(stream).writerows([COLUMNS, *map(_cells, self._rows)])
            # Line by line: whoever reads it meanwhile sees every step, and no half of one.
            self._file = self._path.open("a", 1, newline="", encoding="utf-8")

    @classmethod
    def load(cls, folder: AnyPath) -> Self:
        """Reads `history.csv` of a run folder, also while another process trains there.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: it is damaged, or no such log; the message names it.
        """
        history = cls()
        path = from_repository(folder) / "history.csv"
        try:
            if path.exists() and not path.is_file():
                raise ValueError("it is no file")
            text = path.read_bytes().decode("utf-8")
            whole = text[: text.rfind("\n") + 1]  # a line without an end is still being written
            header, *rows = csv.reader(whole.splitlines()) if whole else [[]]
            if tuple(header) != COLUMNS:
                raise ValueError(f"columns {header}")
            history._rows = [[float(cell) if cell else np.nan for cell in row] for row in rows]
            if any(len(row) != len(COLUMNS) for row in rows):
                raise ValueError("a line has too many or too few cells")
        except ValueError as error:
            raise ValueError(f"{path} is not a training log: {error}") from error
        return history

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, column: str) -> np.ndarray:
        """One column, float64 `[steps]`; see the class for the names."""
        if column not in COLUMNS:
            raise KeyError(f"no column {column!r}; there are {', '.join(COLUMNS)}")
        position = COLUMNS.index(column)
        return np.array([row[position] for row in self._rows])

    def rows(self) -> Tensor:
        """The whole log, float64 `[steps, columns]`, NaN where a cell has no value."""
        return torch.tensor(self._rows, dtype=torch.float64).reshape(-1, len(COLUMNS))

    def recent(self, column: str, steps: int = MEAN_LOSS_EVERY) -> float:
        """Mean of a column over the last `steps` steps, cells without a value left out."""
        return float(np.nanmean(self[column][-steps:]))

    def record(
        self,
        *,
        step: int,
        learning_rate: float,
        loss: float,
        active_fraction: float,
        embeddings: Tensor,
        metric: Metric = "euclidean",
    ) -> None:
        """Adds one step, counted from 1; the batch's `[B, D]` embeddings give the percentiles."""
        row = dict.fromkeys(COLUMNS, np.nan)
        row |= {"step": step, "learning_rate": learning_rate, "loss": loss}
        row["active_fraction"] = active_fraction
        if step % MEAN_LOSS_EVERY == 0:
            earlier = self["loss"][-(MEAN_LOSS_EVERY - 1) :]
            row[f"mean_loss_{MEAN_LOSS_EVERY}"] = float(np.mean([*earlier, loss]))
        if step % self.detail_every == 0:
            row |= _spread_percentiles(embeddings.detach(), metric)
        self._rows.append([float(value) for value in row.values()])
        if self._file is not None:
            with explained_writing(self._path):
                csv.writer(self._file).writerow(_cells(self._rows[-1]))
        if self._board is not None:
            with explained_writing(self._board_folder):
                self._show(step, row, embeddings.detach())

    def _show(self, step: int, row: dict[str, float], embeddings: Tensor) -> None:
        for name, value in row.items():
            if name != "step" and not np.isnan(value):
                self._board.add_scalar(name.replace("_p", "/p"), value, step)
        if step % MEAN_LOSS_EVERY == 0:
            values = embeddings.float().cpu()
            self._board.add_histogram("embedding_entries", values, step)
            self._board.add_histogram("embedding_norms", values.norm(dim=1), step)

    def close(self) -> None:
        """Closes the files; the columns stay readable."""
        if self._file is not None:
            with explained_writing(self._path):
                self._file.close()
        if self._board is not None:
            with explained_writing(self._board_folder):
                self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _spread_percentiles(embeddings: Tensor, metric: Metric) -> dict[str, float]:
    distances = pairwise_distances(embeddings, metric=metric)
    each_pair_once = torch.ones_like(distances, dtype=torch.bool).triu(1)
    values = embeddings.float()
    spreads = {"norm": values.norm(dim=1), "entry": values, "distance": distances[each_pair_once]}
    found: dict[str, float] = {}
    for name, spread in spreads.items():
        # torch.quantile refuses more than 16 million values, which the pairs of 5,793 images are.
        ordered = spread.flatten().sort().values
        ranks = [round(percent / 100 * (len(ordered) - 1)) for percent in PERCENTILES]
        values_at = zip(PERCENTILES, ordered[ranks].tolist(), strict=True)
        found |= {f"{name}_p{percent}": value for percent, value in values_at}
    return found


def _cells(row: list[float]) -> list[float | str]:
    step, *values = row
    return [int(step), *("" if np.isnan(value) else value for value in values)]
