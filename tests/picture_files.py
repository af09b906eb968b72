"""Data sets of tiny pictures, and whether a folder was left as it is."""

from pathlib import Path

from PIL import Image


def write_pictures(root: Path, *names: str) -> Path:
    """JPEGs of 16 x 8 pixels of a colour each, whatever the names' endings say."""
    for k, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16), (k, 0, 0)).save(file, "JPEG")
    return root


def write_market(root: Path, *more: str) -> Path:
    """One picture in each part of Market-1501's layout, and more."""
    return write_pictures(
        root,
        "bounding_box_train/0001_c1s1_000001_01.jpg",
        "query/0002_c1s1_000001_00.jpg",
        "bounding_box_test/0002_c2s1_000001_01.jpg",
        *more,
    )


def state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Everything that a write would change."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in [folder, *folder.rglob("*")]
    }
