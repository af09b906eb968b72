import numpy as np
import pytest
import torch

from tripletlib.embedding import embed, to_unit_interval
from tripletlib.models import MnistNet


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


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_put_back(images, training):
    model = MnistNet().train(training)
    before = model.body[1].running_mean.clone()
    embed(model, images)
    assert model.training == training
    assert torch.equal(model.body[1].running_mean, before)


def test_the_mode_is_put_back_after_an_error():
    model = MnistNet().train()
    with pytest.raises(ValueError, match="28"):
        embed(model, np.zeros((2, 1, 9, 9), np.uint8))
    assert model.training


@pytest.mark.parametrize("bad", [np.zeros((0, 1, 28, 28), np.uint8), np.zeros((2, 1, 28, 28))])
def test_no_images_or_floats_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        embed(MnistNet(), bad)
