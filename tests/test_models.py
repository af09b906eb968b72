import pytest
import torch

from tripletlib.models import MnistNet


def test_parameter_count_is_the_originals_network():
    convolutions = (5 * 5 * 1 + 1) * 32 + (5 * 5 * 32 + 1) * 64
    linear = (64 * 7 * 7 + 1) * 256 + (256 + 1) * 2
    norms = 2 * (32 + 64 + 256)
    counted = sum(parameter.numel() for parameter in MnistNet(2).parameters())
    assert counted == convolutions + linear + norms


@pytest.mark.parametrize("embedding_dim", [1, 2, 64])
def test_embeds_into_the_asked_dimension(embedding_dim):
    assert MnistNet(embedding_dim)(torch.rand(3, 1, 28, 28)).shape == (3, embedding_dim)


def test_weights_are_he_normal():
    torch.manual_seed(0)
    weight = MnistNet().body[9].weight  # 3136 -> 256
    assert weight.std().item() == pytest.approx((2 / 3136) ** 0.5, rel=0.02)
    assert abs(weight.mean().item()) < 1e-4


def test_batch_norm_can_be_left_out():
    kinds = {type(module).__name__ for module in MnistNet(batch_norm=False).modules()}
    assert not any("BatchNorm" in kind for kind in kinds)


def test_head_stays_in_float32_under_autocast():
    model = MnistNet().eval()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = model(torch.rand(2, 1, 28, 28))
    assert embeddings.dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 32, 32)])
def test_other_image_shapes_are_refused_by_name(shape):
    with pytest.raises(ValueError, match=r"\[B, 1, 28, 28\], got"):
        MnistNet()(torch.rand(shape))
