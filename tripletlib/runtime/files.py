"""Where data and runs live, and how a file is written whole, locked, and its errors explained.

papermill, nbval, JupyterLab and a terminal start in different working directories: paths hang on
the repository root or on two environment variables.
"""

import errno
import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
AnyPath = str | PathLike[str]
_OURS = ".written_by_tripletlib"
_ABANDONED_AFTER = 3600  # seconds; by then an unfinished file has lost its writer
_CURES = {
    "free disk space": ("ENOSPC", "EDQUOT", "EFBIG"),
    "make the folder writable": ("EROFS", "EACCES", "EPERM"),
    "move away what lies in its place": ("EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"),
}


class OneLineError(Exception):
    """What a user can mend: told in one line, in a notebook too."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())

    def _render_traceback_(self) -> list[str]:
        return [f"error: {self}"]  # IPython shows this in place of the frames


class ParameterError(OneLineError, ValueError):
    """A parameter that cannot be used; one line names it, its value and what to write instead."""


def from_repository(path: AnyPath) -> Path:
    """The path with `~` expanded; a relative one is meant from the repository."""
    return REPOSITORY / Path(path).expanduser()  # an absolute path stays what it is


def data_root() -> Path:
    """Folder of downloaded or generated data: `TRIPLETLIB_DATA`, else `data/` in the repository."""
    return from_repository(os.environ.get("TRIPLETLIB_DATA") or "data")


def runs_root() -> Path:
    """Folder that collects the run folders: `TRIPLETLIB_RUNS`, else `runs/` in the repository."""
    return from_repository(os.environ.get("TRIPLETLIB_RUNS") or "runs")


def run_folder(name: str) -> Path:
    """Folder of one run, such as `"01_mnist_quick"`, below the runs root; not created here.

    A ParameterError if the name is no text, is empty or absolute, or leads out of the runs root.
    """
    relative = Path(name) if isinstance(name, str) and name.isprintable() else Path()
    if relative.anchor or not relative.parts or ".." in relative.parts or name[0] == "~":
        raise ParameterError(
            f"run name {name!r} must name a folder below {runs_root()}, such as 'my_run'"
        )
    return runs_root() / relative


@contextmanager
def atomic_write(path: AnyPath, sync: bool = False) -> Iterator[Path]:
    """Writes a file under a temporary name and renames it when it is whole.

    Whoever reads `path` sees what was there before or all of the new content. Several processes may
    write it at once; the last one counts.

    Args:
        path: the file, a relative one from the repository; its folder is made when missing.
        sync: also wait until the file is on the disk, so that it survives a loss of power.

    Yields:
        The temporary path, hidden beside `path` and with the same suffix; nothing is there yet.
        After an error inside the `with` block it is removed, and `path` is as it was.

    Raises:
        OSError: it cannot be written; wrap the call in `explained_writing` to name the way out.
    """
    path = from_repository(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    unfinished = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield unfinished
        if sync:
            _sync(unfinished, os.O_RDWR)
        unfinished.replace(path)
        if sync and os.name == "posix":  # the rename as well; Windows cannot open a folder
            _sync(path.parent, os.O_RDONLY)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def explained_writing(
    path: AnyPath,
    way_out: str = "name another runs folder with TRIPLETLIB_RUNS, then go on with resume=True",
) -> Iterator[None]:
    """Wraps the writing of a run's file: an OSError inside names the file and the way out."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError) and error.errno is None:
            raise  # ours: it says itself what to do
        name = errno.errorcode.get(error.errno or 0)
        cure = next((cure for cure, names in _CURES.items() if name in names), "see to it")
        message = f"{error.strerror or error}; {cure}, or {way_out}; could not write"
        raise OSError(error.errno, message, str(path)) from error


def renew_folder(folder: AnyPath) -> None:
    """Makes an empty folder for what a command writes; what it wrote there before is removed.

    A FileExistsError for a folder with other files, which is left as it is.
    """
    folder = from_repository(folder)
    mark = folder / _OURS
    if folder.exists():
        if any(folder.iterdir()) and not mark.exists():
            raise FileExistsError(
                f"{folder} holds files that this command did not write; name a new or an empty "
                "folder, or remove it yourself"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    mark.touch()


@contextmanager
def exclusive_lock(path: AnyPath) -> Iterator[bool]:
    """Locks a folder, or a file made when missing, until the `with` block or the process ends.

    On Linux a file's lock also holds between the machines that share a network folder. Yields False
    where locks cannot be had: Windows, some network folders. A BlockingIOError if somebody else
    holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    # A network folder's exclusive lock needs a file that is open for writing.
    handle = os.open(path, os.O_RDONLY if Path(path).is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            raise
        except OSError:
            is_locked = False
        yield is_locked
    finally:
        os.close(handle)


def _remove_abandoned(path: Path) -> None:
    """Removes what processes left that were killed while they wrote the same path."""
    stem, suffix = glob.escape(path.stem), glob.escape(path.suffix)
    for unfinished in path.parent.glob(f".{stem}-????????{suffix}"):
        with suppress(FileNotFoundError):  # its writer, another process, has just renamed it
            if time.time() - unfinished.stat().st_mtime > _ABANDONED_AFTER:
                unfinished.unlink()


def _sync(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
