"""TriNet: torchvision's networks under the paper's head or a neck, and where weights come from."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models as networks

from tripletlib.models import TriNet

SIZE = (64, 32)
IMAGES = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def small(**changed):
    torch.manual_seed(0)
    options = {"backbone": "mobilenet_v2", "weights": None, "image_size": SIZE}
    return TriNet(**options | changed)


@pytest.fixture(scope="module")
def network():
    """Torchvision's network with weights that stand for those of ImageNet."""
    torch.manual_seed(1)
    return networks.mobilenet_v2(weights=None).eval()


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Where torchvision keeps, and looks for, the weights of ImageNet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = Path(networks.MobileNet_V2_Weights.DEFAULT.url).name
    file = tmp_path / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    return file


def test_the_papers_head_sits_on_the_features_of_torchvisions_network(network, cached):
    torch.save(network.state_dict(), cached)
    model = small(weights="imagenet", last_stride=2).eval()
    colours = networks.MobileNet_V2_Weights.DEFAULT.transforms()
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (colours.mean, colours.std))
    with torch.no_grad():
        features = network.features((IMAGES - mean) / std).mean((2, 3))
        torch.testing.assert_close(model(IMAGES), model.head(features), rtol=1e-4, atol=1e-5)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [type(layer) for layer in model.head] == kinds
    assert [model.head[0].out_features, model.head[3].out_features] == [1024, 128]


def test_a_file_of_weights_is_as_good(network, tmp_path):
    state = network.state_dict()
    kept = {name: value for name, value in state.items() if name.startswith("features.")}
    torch.save(kept, tmp_path / "bottleneck.pt")  # without a classifier
    model = small(weights=tmp_path / "bottleneck.pt", embedding_dim=1280)
    for ours, theirs in zip(model.body, network.features, strict=False):
        assert all(map(torch.equal, ours.parameters(), theirs.parameters()))


def test_other_names_in_the_same_order_are_the_same_weights(network, tmp_path):
    features = [it for it in network.state_dict().items() if it[0].startswith("features.")]
    torch.save({f"old.{name}": value for name, value in features}, tmp_path / "old.pt")
    model = small(weights=tmp_path / "old.pt", embedding_dim=1280)
    for ours, theirs in zip(model.body, network.features, strict=False):
        assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v2"])
def test_a_last_stride_of_1_doubles_the_last_map(backbone):
    maps = {}
    for stride in (1, 2):
        body = small(backbone=backbone, last_stride=stride).eval().body
        with torch.no_grad():
            maps[stride] = body[:-2](IMAGES).shape[2:]
    assert maps == {1: (4, 2), 2: (2, 1)}


def test_the_default_is_the_papers():
    model = TriNet(weights=None)
    assert model.image_size == (256, 128)
    backbone = sum(p.numel() for p in networks.resnet50(weights=None).parameters()) - 2_049_000
    head = 2048 * 1024 + 1024 + 2 * 1024 + 1024 * 128 + 128
    assert sum(p.numel() for p in model.parameters()) == backbone + head


def test_a_neck_is_seen_in_evaluation_only():
    model = small(embedding_dim=1280, neck=True)
    assert not len(model.head)
    features = model.body((IMAGES - model.mean) / model.std)
    torch.testing.assert_close(model(IMAGES), features)
    nn.init.uniform_(model.neck.weight, 0.5, 2)
    model.eval()
    with torch.no_grad():
        expected = F.normalize(model.neck(model.body((IMAGES - model.mean) / model.std)))
        torch.testing.assert_close(model(IMAGES), expected)
    assert not model.neck.bias.requires_grad


@pytest.mark.parametrize("last_stride", [1, 2])
def test_strided_depthwise_convolutions_compute_in_float32_on_a_cpu(last_stride):
    layers = small(embedding_dim=1280, last_stride=last_stride).modules()
    depthwise = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    strided = [layer for layer in depthwise if layer.stride == (2, 2)]
    assert len(strided) == 2 + last_stride
    for layer in depthwise:
        features = torch.rand(2, layer.in_channels, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(features.bfloat16())
        assert found.dtype == (torch.float32 if layer in strided else torch.bfloat16)
        if layer not in strided:
            continue
        expected = F.conv2d(
            features.bfloat16().float(), layer.weight, None, 2, 1, groups=layer.groups
        )
        torch.testing.assert_close(found, expected)
        half = layer.bfloat16()(features.bfloat16())  # whole networks in bfloat16 work, too
        assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("given", ["a file", "imagenet"])
def test_files_without_such_weights_are_named(network, cached, given):
    def refused(backbone="mobilenet_v2"):
        with pytest.raises(ValueError, match="does not hold weights") as caught:
            small(backbone=backbone, weights=cached if given == "a file" else given)
        assert str(caught.value).startswith(f"{cached} ")
        return str(caught.value)

    torch.save(network, cached)  # a whole module: reading it would execute code
    assert "UnpicklingError" in refused()
    cached.write_text("no weights")
    refused()
    torch.save({"features.0.0.weight": torch.zeros(1)}, cached)
    assert "RuntimeError" in refused()  # of another shape
    torch.save({}, cached)
    assert "of mobilenet_v2 (it lacks features.0.0.weight); https://" in refused()
    torch.save(network.state_dict() | {"features.19.weight": torch.zeros(1)}, cached)
    assert "of mobilenet_v2 (it has features.19.weight, too); https://" in refused()


def test_a_file_of_another_network_is_named(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "mobile.pt")
    with pytest.raises(ValueError, match=r"mobile\.pt does not hold weights of resnet50 \(it l"):
        small(backbone="resnet50", weights=tmp_path / "mobile.pt")


def test_without_a_network_the_address_and_the_place_are_told(cached, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(OSError, match=r"no route to host>\); get https://.*, and put it") as caught:
        small(weights="imagenet")
    assert str(caught.value).startswith(f"{cached} cannot be read or downloaded ")
    with pytest.raises(OSError, match=r"missing\.pt cannot be read"):
        small(weights=tmp_path / "missing.pt")


def test_other_sizes_and_names_are_refused():
    with pytest.raises(ValueError, match="made for images"):
        small()(torch.rand(2, 3, 32, 32))
    for wrong in ({"backbone": "vgg16"}, {"last_stride": 3}, {"image_size": (0, 32)}):
        with pytest.raises(ValueError, match="backbone must be"):
            small(**wrong)
