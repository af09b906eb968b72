"""Digits, the Market-1501 layout, folders of one's own, and pedestrians that are drawn."""

from tripletlib.datasets.decoding import decode_image, read_image, read_images
from tripletlib.datasets.digits import LabelledImages, load_digits, mnist_5k
from tripletlib.datasets.drawn.dataset import write_synthetic_market
from tripletlib.datasets.layouts import Market1501, from_folders, from_pictures
from tripletlib.datasets.splits import Pictures, ReidDataset, Split

__all__ = [
    "LabelledImages",
    "Market1501",
    "Pictures",
    "ReidDataset",
    "Split",
    "decode_image",
    "from_folders",
    "from_pictures",
    "load_digits",
    "mnist_5k",
    "read_image",
    "read_images",
    "write_synthetic_market",
]
