import copy
import errno
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tripletlib.embedding import (
    EmbeddingTable,
    embed,
    embedded_by,
    saved_table,
    to_unit_interval,
)
from tripletlib.models import LuNet, MnistNet
from tripletlib.runtime import REPOSITORY, choose_layout


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (7, 1, 28, 28), dtype=np.uint8)


def test_bytes_become_intensities(images):
    scaled = to_unit_interval(images, torch.device("cpu"))
    np.testing.assert_allclose(scaled.numpy(), images / 255, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_size_does_not_matter(images, batch_size):
    model = MnistNet()
    expected = model.eval()(torch.as_tensor(images / 255, dtype=torch.float32)).detach()
    found = embed(model, images, batch_size)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert found.dtype == np.float32


def test_a_processor_gets_few_pixels_at_once_in_the_order_that_it_computes_fastest():
    batches = []

    class Watching(nn.Module):
        def forward(self, batch):
            batches.append(batch)
            return batch.mean((2, 3))

    embed(Watching(), np.zeros((70, 3, 128, 64), np.uint8))
    assert [len(batch) for batch in batches] == [64, 6]
    layout = choose_layout(torch.device("cpu"))
    assert all(batch.is_contiguous(memory_format=layout) for batch in batches)
    batches.clear()
    embed(Watching(), np.zeros((2, 3, 1024, 1024), np.uint8))
    assert [len(batch) for batch in batches] == [1, 1]


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_put_back(images, training):
    model = MnistNet().train(training)
    before = model.body[1].running_mean.clone()
    embed(model, images)
    assert model.training == training
    assert torch.equal(model.body[1].running_mean, before)


def test_a_layer_that_was_frozen_stays_frozen(images):
    model = MnistNet().train()
    model.body[1].eval()
    embed(model, images)
    assert [model.training, model.body[1].training, model.body[4].training] == [True, False, True]


def test_the_mode_is_put_back_after_an_error():
    model = MnistNet().train()
    with pytest.raises(ValueError, match="28"):
        embed(model, np.zeros((2, 1, 9, 9), np.uint8))
    assert model.training


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 1, 28, 28), np.uint8),
        np.zeros((2, 1, 28, 28)),
        np.zeros((28, 28), np.uint8),
        np.zeros((2, 1, 0, 28), np.uint8),
        torch.zeros(2, 1, 28, 28),
    ],
)
def test_no_images_or_floats_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        embed(MnistNet(), bad)


class Corners(nn.Module):
    """Embeds an image as its mean and its top left pixel, and notes what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.shown = []

    def forward(self, images):
        self.shown.append(images.clone())
        return torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], 1) * self.weight


@pytest.mark.parametrize(
    ("tta", "views"), [("none", 1), ("flip", 2), ("5crops", 5), ("5crops+flip", 10)]
)
def test_an_embedding_is_the_mean_over_its_views(images, tta, views):
    model = Corners()
    found = embed(model, images, tta=tta)
    assert len(model.shown) == views
    expected = torch.stack([model(view).detach() for view in model.shown[:views]]).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_flips_mirror_left_and_right(images):
    model = Corners()
    embed(model, images, tta="flip")
    assert torch.equal(model.shown[1], model.shown[0].flip(3))


def test_five_crops_are_the_corners_and_the_centre():
    ramp = np.zeros((1, 3, 128, 64), np.uint8)
    ramp[0, 0] = np.arange(128)[:, None]
    ramp[0, 1] = np.arange(64)
    model = Corners()
    embed(model, ramp, tta="5crops")
    tops = [round(view[0, 0, 0, 0].item() * 255, 1) for view in model.shown]
    lefts = [round(view[0, 1, 0, 0].item() * 255, 1) for view in model.shown]
    assert tops[0] == tops[1] < tops[4] < tops[2] == tops[3]
    assert lefts[0] == lefts[2] < lefts[4] < lefts[1] == lefts[3]
    assert all(view.shape == (1, 3, 128, 64) for view in model.shown)


def test_unknown_augmentation_lists_the_known(images):
    with pytest.raises(ValueError, match=r"5crops\+flip"):
        embed(MnistNet(), images, tta="rotate")


def test_bfloat16_is_close_to_float32(images):
    model = MnistNet()
    exact, quick = (embed(model, images, precision=name) for name in ("float32", "bfloat16"))
    assert not np.array_equal(exact, quick)
    np.testing.assert_allclose(quick, exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float16, 0.01), (torch.bfloat16, 0.05)]
)
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_network_computes_in_the_type_of_its_weights(images, dtype, tolerance, precision):
    model = MnistNet(embedding_dim=8)
    exact = copy.deepcopy(model).double().eval()
    expected = exact(torch.from_numpy(images / 255)).detach().numpy()
    found = embed(model.to(dtype), images, precision=precision)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


def test_lunet_embeds_in_half_precision():
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 32), dtype=np.uint8)
    for original in (False, True):
        model = LuNet(8, width=0.1, image_size=(64, 32), original=original)
        expected, found = embed(model, images), embed(model.half(), images)
        np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


def test_a_network_without_weights_gets_intensities(images):
    found = embed(nn.Flatten(), images, tta="none")
    np.testing.assert_allclose(found, images.reshape(7, -1) / 255, rtol=1e-6)


def test_images_may_be_a_tensor_mirrored_or_read_only(images):
    model = MnistNet()
    expected = embed(model, images)
    np.testing.assert_array_equal(embed(model, torch.from_numpy(images)), expected)
    mirrored = embed(model, images[..., ::-1])
    np.testing.assert_array_equal(mirrored, embed(model, images[..., ::-1].copy()))
    images.flags.writeable = False
    np.testing.assert_array_equal(embed(model, images), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_images_and_network_may_be_on_different_devices(images):
    model = MnistNet()
    expected = embed(model, images)
    on_gpu = torch.from_numpy(images).cuda()
    np.testing.assert_allclose(embed(model, on_gpu), expected, atol=1e-4)
    np.testing.assert_allclose(embed(model.cuda(), images), expected, atol=1e-2)
    assert embed(nn.Flatten(), on_gpu).shape == (7, 784)


def table(**changed):
    columns = {
        "embeddings": np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32),
        "pids": np.array([5, -1, 0]),
        "camids": np.array([1, 2, 6]),
        "paths": np.array(["a.jpg", "ü.jpg", "c d.jpg"], dtype=object),
    }
    return EmbeddingTable(**columns | {"step": 700, "tta": "flip"} | changed)


def test_a_table_reads_back_as_it_was_saved(tmp_path):
    table().save(tmp_path / "new" / "query.npz")
    loaded = EmbeddingTable.load(tmp_path / "new" / "query.npz")
    for name in ("embeddings", "pids", "camids", "paths"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(table(), name))
    assert (loaded.step, loaded.tta, len(loaded)) == (700, "flip", 3)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["query.npz"]


def test_a_table_that_carries_code_or_is_cut_is_refused(tmp_path):
    file = tmp_path / "query.npz"
    columns = {field.name: getattr(table(), field.name) for field in fields(EmbeddingTable)}
    np.savez(file, **columns)  # its paths are objects, which would be unpickled
    with pytest.raises(ValueError, match=r"query\.npz is not an embedding table"):
        EmbeddingTable.load(file)
    table().save(file)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match="not an embedding table"):
        EmbeddingTable.load(file)


def test_a_failed_save_keeps_the_earlier_table(tmp_path, monkeypatch):
    table().save(tmp_path / "query.npz")
    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            table().save(tmp_path / "query.npz")
    assert len(EmbeddingTable.load(tmp_path / "query.npz")) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["query.npz"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", ["mkdir", "open", "replace"])
def test_a_disk_that_cannot_be_written_is_named(tmp_path, monkeypatch, name, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, name, refuse)
    with pytest.raises(OSError, match=r"TRIPLETLIB_RUNS.*could not write: .*query\.npz") as caught:
        table().save(tmp_path / "query.npz")
    assert caught.value.errno == code


MADE_BY = {"tta": "flip", "precision": "float32", "weights": "0123"}


def wanted():
    """All of the saved table but the embeddings."""
    columns = {name: getattr(table(), name) for name in ("pids", "camids", "paths")}
    return {**columns, "step": 700, "content": "ab", **MADE_BY}


@pytest.mark.parametrize(
    "changed",
    [
        {"step": 800},
        {"content": "another"},
        {"tta": "none"},
        {"precision": "bfloat16"},
        {"weights": "4567"},
        {"paths": np.array(["a.jpg", "b.jpg", "c d.jpg"])},
        {"pids": np.array([9, 9, 9])},
        {"camids": np.array([9, 9, 9])},
    ],
)
def test_a_saved_table_comes_back_only_for_what_it_was_made_from(tmp_path, changed):
    file = tmp_path / "query.npz"
    table(content="ab", **MADE_BY).save(file)
    assert saved_table(file, wanted()) is not None
    assert saved_table(tmp_path / "gallery.npz", wanted()) is None
    assert saved_table(file, wanted() | changed) is None


def test_a_table_without_fingerprints_is_read_but_never_taken_for_another(tmp_path):
    file = tmp_path / "query.npz"
    columns = {name: getattr(table(), name) for name in ("embeddings", "pids", "camids")}
    paths = table().paths.astype(str)
    np.savez(file, **columns, paths=paths, step=700, tta="flip", files="0123456789abcdef")
    assert EmbeddingTable.load(file).content == ""
    assert saved_table(file, wanted()) is None


def test_another_weight_layer_or_type_is_another_network():
    def network(slope=0.1, dtype=torch.float32):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(slope)).to(dtype)

    same, moved = network(), network()
    with torch.no_grad():
        moved[0].bias[1] += 1e-6
    others = moved, network(slope=0.2), network(dtype=torch.bfloat16)
    found = {embedded_by(model)["weights"] for model in (network(), same, *others)}
    assert len(found) == 4
    assert embedded_by(network(dtype=torch.float16))["precision"] == "float16"
    assert embedded_by(network(), "flip", "bfloat16")["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"camids": np.array([1, 2])}, "equally long.*'camids': 2"),
        ({"step": np.array([1, 2, 3])}, r"query\.npz is not an embedding table"),
        ({"step": 1.5}, "step of an embedding table cannot be 1.5"),
        ({"embeddings": np.full((3, 2), np.nan)}, "3 of 3 embeddings are NaN or infinite"),
        ({"embeddings": np.zeros(3)}, r"embeddings .* must be floating-point numbers \[N, D\]"),
        ({"pids": np.array(["5", "6", "7"])}, "pids .* must be integers"),
    ],
)
def test_a_damaged_table_is_named_with_the_reason(tmp_path, changed, message):
    file = tmp_path / "query.npz"
    values = {field.name: getattr(table(), field.name) for field in fields(EmbeddingTable)}
    np.savez(file, **values | {"paths": table().paths.astype(str)} | changed)
    with pytest.raises(ValueError, match=message) as caught:
        EmbeddingTable.load(file)
    assert str(file) in str(caught.value)


def test_what_is_no_file_is_named_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "query.npz")
    with pytest.raises(ValueError, match=r"query\.npz is no file"):
        EmbeddingTable.load(tmp_path / "query.npz")


def test_paths_may_be_text_from_home_or_from_the_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    table().save("~/saved/query.npz")
    assert len(EmbeddingTable.load(str(tmp_path / "saved" / "query.npz"))) == 3
    with pytest.raises(FileNotFoundError, match=str(REPOSITORY)):
        EmbeddingTable.load("saved/query.npz")


def test_columns_of_different_lengths_are_named():
    with pytest.raises(ValueError, match="'camids': 2"):
        table(camids=np.array([1, 2]))
