import pytest
import torch
from torch import nn

from tripletlib.models import LuNet, MnistNet


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


def test_lunet_has_the_papers_five_million_parameters():
    counted = sum(parameter.numel() for parameter in LuNet().parameters())
    assert counted / 1e6 == pytest.approx(5.00, abs=0.005)


def test_lunet_blocks_are_table_9():
    widths = [
        tuple(layer.out_channels for layer in block.residual if isinstance(layer, nn.Conv2d))
        for block in LuNet().body
        if hasattr(block, "residual")
    ]
    assert widths == [
        (32, 32, 128),
        *[(32, 32, 128)] * 2,
        (64, 64, 256),
        *[(64, 64, 256)] * 2,
        *[(64, 64, 256)] * 2,
        (128, 128, 512),
        *[(128, 128, 512)] * 2,
        (512, 128),
    ]
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in LuNet().body) == 5


def test_lunet_first_linear_layer_takes_1024_features():
    linear = [layer for layer in LuNet().modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [
        (1024, 512),
        (512, 128),
    ]


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("image_size", [(128, 64), (64, 32), (50, 33)])
def test_lunet_embeds_images_of_its_size(original, image_size):
    model = LuNet(16, width=0.125, image_size=image_size, original=original)
    assert model(torch.rand(2, 3, *image_size)).shape == (2, 16)


def test_lunet_refuses_another_size_and_names_both():
    with pytest.raises(ValueError, match=r"\[B, 3, 128, 64\], got \[2, 3, 64, 32\]"):
        LuNet(width=0.125)(torch.rand(2, 3, 64, 32))


@pytest.mark.parametrize(("width", "image_size"), [(0, (128, 64)), (1, (0, 64))])
def test_lunet_refuses_nonsense(width, image_size):
    with pytest.raises(ValueError, match="above 0"):
        LuNet(width=width, image_size=image_size)


def test_lunet_slopes_are_leaky():
    slopes = {
        layer.negative_slope for layer in LuNet().modules() if isinstance(layer, nn.LeakyReLU)
    }
    assert slopes == {0.3}
    assert not any(isinstance(layer, nn.ReLU) for layer in LuNet().modules())


def test_lunet_starts_he_and_glorot():
    torch.manual_seed(0)
    model = LuNet()
    wide = next(block for block in model.body[::-1] if hasattr(block, "residual"))
    weight = wide.residual[0].weight  # 3x3x512 inputs
    assert weight.std().item() == pytest.approx((2 / (1 + 0.3**2) / (9 * 512)) ** 0.5, rel=0.01)
    linear = model.head[0].weight  # Glorot, uniform: variance 2 / (512 + 128)
    assert linear.std().item() == pytest.approx((2 / (512 + 128)) ** 0.5, rel=0.02)


def test_only_the_originals_variant_normalises_the_embedding():
    images = torch.rand(64, 3, 32, 16)
    embeddings = LuNet(8, 0.125, (32, 16), original=True)(images)
    torch.testing.assert_close(embeddings.std(0, correction=0), torch.ones(8), rtol=0.01, atol=0.01)
    plain = LuNet(8, 0.125, (32, 16))(images)
    assert not torch.allclose(plain.std(0), torch.ones(8), rtol=0.01, atol=0.01)


def test_pre_activation_leaves_a_clean_path():
    """With its residual branch silenced, a block hands its input on unchanged."""
    block = next(block for block in LuNet(width=0.125).body if hasattr(block, "residual"))
    nn.init.zeros_(block.residual[-1].weight)
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(block(x), x)
