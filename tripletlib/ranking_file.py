"""A query's whole ranking as a CSV file."""

import csv
from pathlib import Path

from tripletlib.embedding import EmbeddingTable
from tripletlib.lookup import Sight


def write_ranking(file: Path, sight: Sight, gallery: EmbeddingTable) -> None:
    """Writes the gallery in the order that is seen, nearest first.

    Args:
        file: the file to write. Its columns are rank (empty for junk), distance, verdict, pid,
            camid and path.
        sight: what is seen; re-ranked, the distance is the final one.
        gallery: what was ranked.
    """
    answers = sight.answers
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["rank", "distance", "verdict", "pid", "camid", "path"])
        for rank, distance, verdict, index in zip(
            answers.ranks, answers.distances, answers.verdicts, answers.order, strict=True
        ):
            labels = gallery.pids[index], gallery.camids[index], gallery.paths[index]
            writer.writerow([rank or "", f"{distance:.6g}", verdict, *labels])
