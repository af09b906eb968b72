"""The networks that turn images into embeddings."""

import math
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tripletlib.runtime import AnyPath, from_repository

Backbone = Literal["resnet50", "mobilenet_v2"]
_CLASSIFIERS = "fc.", "classifier."  # of torchvision's networks, which have no place here


class MnistNet(nn.Module):
    """Two convolutions and two linear layers that put a digit into a small space.

    Batch-normalisation is what lets batch hard start from random weights: without it this network
    collapses (notebook 02 shows how).

    Args:
        embedding_dim: D, dimensions of the embedding.
        batch_norm: normalise after every layer but the last. Off only to watch the collapse.

    Source:
        The original TensorFlow project's MNIST network; He et al. 2015 (arXiv 1502.01852) for the
        initialisation.

    Example:
        >>> MnistNet(embedding_dim=2).eval()(torch.zeros(4, 1, 28, 28)).shape
        torch.Size([4, 2])
    """

    def __init__(self, embedding_dim: int = 2, batch_norm: bool = True) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 5, padding=2),
            nn.BatchNorm2d(32) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [B, 32, 14, 14]
            nn.Conv2d(32, 64, 5, padding=2),
            nn.BatchNorm2d(64) if batch_norm else nn.Identity(),
            nn.ReLU(),
            nn.MaxPool2d(2),  # [B, 64, 7, 7]
            nn.Flatten(),  # [B, 3136]
            nn.Linear(64 * 7 * 7, 256),
            nn.BatchNorm1d(256) if batch_norm else nn.Identity(),
            nn.ReLU(),
        )
        self.head = nn.Linear(256, embedding_dim)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds digits, `[B, 1, 28, 28]` with intensities in [0, 1], as `[B, D]`.

        The last layer computes in its weights' type even under autocast: bfloat16 has 8 bits of
        mantissa, too few for distances between neighbours.

        Raises:
            ValueError: images of another shape.
        """
        if images.shape[1:] != (1, 28, 28):
            raise ValueError(f"MnistNet takes [B, 1, 28, 28], got {list(images.shape)}")
        features = self.body(images)  # [B, 256]
        return _without_autocast(self.head, features)


def _without_autocast(layer: nn.Module, features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        return layer(features.to(next(layer.parameters()).dtype))


# Input, inner and output channels of LuNet's residual blocks; a max-pooling ends every group.
_LUNET_GROUPS = (
    ((128, 32, 128),),
    ((128, 32, 128), (128, 32, 128), (128, 64, 256)),
    ((256, 64, 256), (256, 64, 256)),
    ((256, 64, 256), (256, 64, 256), (256, 128, 512)),
    ((512, 128, 512), (512, 128, 512)),
)


class LuNet(nn.Module):
    """The paper's network for person re-identification, trained from scratch.

    A 7x7 convolution, five groups of residual blocks that each end in a max-pooling, one wider
    block, two linear layers. Blocks are pre-activation as in ResNet-v2, with a 1x1 convolution as
    shortcut where the width changes; every ReLU is leaky with slope 0.3. The paper prints neither
    the exact place of the batch-normalisations nor the form of the shortcut; as built here the
    network has 5.00 M parameters, as the paper says.

    Args:
        embedding_dim: D, dimensions of the embedding.
        width: factor on the channels and features inside; 0.25 suits a laptop.
        image_size: (height, width) of the images in pixels; it sizes the first linear layer.
        original: the original TensorFlow project's variant instead: post-activation blocks, and a
            batch-normalisation on the embedding.

    Raises:
        ValueError: a width or an image size that is not above 0.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), table 9; He et al. 2016 (arXiv 1603.05027) for the
        pre-activation block.

    Example:
        >>> model = LuNet()
        >>> f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M"
        '5.00 M'
    """

    def __init__(
        self,
        embedding_dim: int = 128,
        width: float = 1.0,
        image_size: tuple[int, int] = (128, 64),
        original: bool = False,
    ) -> None:
        super().__init__()
        if width <= 0 or min(image_size) < 1:
            raise ValueError(f"width and image_size must be above 0, got {width}, {image_size}")
        self.image_size = tuple(image_size)

        def scaled(channels: int) -> int:
            return max(1, round(channels * width))

        block = _PostActivationBlock if original else _PreActivationBlock
        layers: list[nn.Module] = [nn.Conv2d(3, scaled(128), 7, padding=3)]
        if original:
            layers += [nn.BatchNorm2d(scaled(128)), _leaky()]
        for group in _LUNET_GROUPS:
            for n_in, n_inner, n_out in group:
                layers.append(block(*_bottleneck(scaled(n_in), scaled(n_inner), scaled(n_out))))
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        layers.append(block(*_wide(scaled(512), scaled(512), scaled(128))))
        if not original:
            layers += [nn.BatchNorm2d(scaled(128)), _leaky()]
        pixels = math.prod(math.ceil(size / 2 ** len(_LUNET_GROUPS)) for size in image_size)
        features = scaled(512)
        self.body = nn.Sequential(
            *layers,
            nn.Flatten(),  # [B, 1024] at the defaults
            nn.Linear(scaled(128) * pixels, features),
            nn.BatchNorm1d(features),
            _leaky(),
        )
        self.head = nn.Sequential(nn.Linear(features, embedding_dim))
        if original:
            self.head.append(nn.BatchNorm1d(embedding_dim))
        self.apply(_initialise_lunet)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds pictures of people, `[B, 3, H, W]` with intensities in [0, 1], as `[B, D]`.

        The last layer computes as that of `MnistNet`.

        Raises:
            ValueError: images of another shape than the network was made for.
        """
        expected = (3, *self.image_size)
        if images.shape[1:] != expected:
            raise ValueError(
                f"this LuNet was made for images [B, {', '.join(map(str, expected))}], got "
                f"{list(images.shape)}; resize them or make it with image_size="
                f"{tuple(images.shape[2:])}"
            )
        features = self.body(images)  # [B, 512]
        return _without_autocast(self.head, features)


class TriNet(nn.Module):
    """A pretrained backbone with a new head: the paper's network that starts from ImageNet.

    The backbone's last map, averaged over the picture, goes through FC 1024, batch-normalisation,
    ReLU and FC `embedding_dim`. Where `embedding_dim` is that of the backbone's features (2,048 or
    1,280), there is no head: they are the embedding.

    Args:
        backbone: `"resnet50"`, the paper's, or `"mobilenet_v2"`, small enough for a CPU.
        weights: `"imagenet"` for torchvision's, which are downloaded once; a file with a state
            dict of that network, a relative path from the repository; None for random ones.
        embedding_dim: D, dimensions of the embedding.
        image_size: (height, width) of the images in pixels.
        last_stride: of the backbone's last stage, 2 or 1; 1 leaves its map twice as high and wide.
        neck: whether there is a BNNeck, a batch-normalisation between the embedding that the
            triplet loss sees and the classifier of an identity loss, which trains it. In evaluation
            mode its output is returned, with rows of length 1.

    Raises:
        ValueError: an unknown backbone or stride, an image size not above 0, other weights.
        OSError: weights cannot be downloaded or read; the message names address and file.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4, "TriNet"; Luo et al. 2019 (arXiv
        1903.07071), sections 3.4 and 3.5, for last stride and BNNeck.
    """

    def __init__(
        self,
        backbone: Backbone = "resnet50",
        weights: AnyPath | None = "imagenet",
        embedding_dim: int = 128,
        image_size: tuple[int, int] = (256, 128),
        last_stride: int = 1,
        neck: bool = False,
    ) -> None:
        super().__init__()
        if backbone not in get_args(Backbone) or last_stride not in (1, 2) or min(image_size) < 1:
            raise ValueError(
                f"backbone must be one of {get_args(Backbone)}, last_stride 1 or 2 and image_size "
                f"above 0, got {backbone!r}, {last_stride} and {image_size}"
            )
        self.image_size = tuple(image_size)
        network = _pretrained(backbone, weights)
        if backbone == "resnet50":
            stages = list(network.children())[:-2]  # without average pooling and classifier
            features, block = 2048, stages[-1][0]
            strided = [block.conv2, block.downsample[0]]
        else:
            stages, features = list(network.features), 1280
            strided = [stages[14].conv[1][0]]
        for convolution in strided:
            convolution.stride = (last_stride, last_stride)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.stride == (2, 2):
                layer.__class__ = _Float32Convolution
        self.body = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # [B, features]
        self.head = nn.Sequential()
        if embedding_dim != features:
            hidden = nn.Linear(features, 1024), nn.BatchNorm1d(1024), nn.ReLU()
            self.head.extend([*hidden, nn.Linear(1024, embedding_dim)])
        self.neck = nn.BatchNorm1d(embedding_dim) if neck else None
        if self.neck is not None:
            self.neck.bias.requires_grad_(False)  # stays 0
        # Means and deviations of ImageNet's colours, which the backbone's weights expect.
        self.mean = nn.Buffer(torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Embeds pictures of people, `[B, 3, H, W]` with intensities in [0, 1], as `[B, D]`.

        Raises:
            ValueError: images of another shape than the network was made for.
        """
        if images.shape[1:] != (3, *self.image_size):
            raise ValueError(f"TriNet was made for images {self.image_size}, got {[*images.shape]}")
        features = self.body((images - self.mean) / self.std)  # [B, features]
        with torch.autocast(features.device.type, enabled=False):  # see MnistNet
            embeddings = self.head(features.to(images.dtype))
            if self.training or self.neck is None:
                return embeddings
            return F.normalize(self.neck(embeddings))


class _Float32Convolution(nn.Conv2d):
    # In bfloat16, oneDNN's backward pass of a depthwise convolution of stride 2 takes 14 to 25
    # times as long as in float32: over a third of a whole training step of MobileNetV2.
    def forward(self, features: Tensor) -> Tensor:
        if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.float())


def _pretrained(backbone: Backbone, weights: AnyPath | None) -> Any:
    """Torchvision's network with its ImageNet weights, those of a file, or random ones."""
    from torchvision import models  # here: it imports in seconds

    network = models.get_model(backbone, weights=None)
    if weights is None:
        return network
    imagenet = models.get_model_weights(backbone).DEFAULT
    if weights == "imagenet":
        file = Path(torch.hub.get_dir(), "checkpoints", Path(imagenet.url).name)
        read = partial(imagenet.get_state_dict, check_hash=True, weights_only=True)
    else:
        file = from_repository(weights)
        read = partial(torch.load, file, map_location="cpu", weights_only=True)
    try:
        odd = network.load_state_dict(_renamed(read(), network), strict=False)
        lacking, unknown = (
            [name for name in names if not name.startswith(_CLASSIFIERS)]
            for names in (odd.missing_keys, odd.unexpected_keys)
        )
        problem = f"it lacks {lacking[0]}" if lacking else ""
        problem = problem or (f"it has {unknown[0]}, too" if unknown else "")
    except OSError as error:
        raise OSError(
            f"{file} cannot be read or downloaded ({error}); get {imagenet.url} where there is a "
            "network, and put it there"
        ) from error
    except Exception as error:  # a foreign or cut file fails in many ways
        problem = shorten(f"{type(error).__name__}: {error}", 300)
    if problem:
        raise ValueError(
            f"{file} does not hold weights of {backbone} ({problem}); {imagenet.url} does"
        )
    return network


def _renamed(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The backbone's weights under today's names; torchvision's order has outlived other names."""
    values = [value for name, value in state.items() if not name.startswith(_CLASSIFIERS)]
    names = [name for name in network.state_dict() if not name.startswith(_CLASSIFIERS)]
    if len(values) != len(names) or set(names) <= set(state):
        return state
    return dict(zip(names, values, strict=True))


class _PreActivationBlock(nn.Module):
    """Batch-normalisation, leaky ReLU, convolution, each time; the sum is left as it is."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        super().__init__()
        n_in, n_out = convolutions[0].in_channels, convolutions[-1].out_channels
        self.activate = nn.Sequential(nn.BatchNorm2d(n_in), _leaky())
        steps: list[nn.Module] = [convolutions[0]]
        for convolution in convolutions[1:]:
            steps += [nn.BatchNorm2d(convolution.in_channels), _leaky(), convolution]
        self.residual = nn.Sequential(*steps)
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        # As in ResNet-v2, a shortcut that changes the width starts behind the activation.
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.residual(activated)


class _PostActivationBlock(nn.Module):
    """Convolution and batch-normalisation each time; a leaky ReLU follows the sum."""

    def __init__(self, *convolutions: nn.Conv2d) -> None:
        super().__init__()
        n_in, n_out = convolutions[0].in_channels, convolutions[-1].out_channels
        steps: list[nn.Module] = []
        for convolution in convolutions:
            steps += [convolution, nn.BatchNorm2d(convolution.out_channels), _leaky()]
        self.residual = nn.Sequential(*steps[:-1])
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.activate = _leaky()

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.shortcut(x) + self.residual(x))


def _bottleneck(n_in: int, n_inner: int, n_out: int) -> list[nn.Conv2d]:
    return [
        nn.Conv2d(n_in, n_inner, 1),
        nn.Conv2d(n_inner, n_inner, 3, padding=1),
        nn.Conv2d(n_inner, n_out, 1),
    ]


def _wide(n_in: int, n_inner: int, n_out: int) -> list[nn.Conv2d]:
    return [nn.Conv2d(n_in, n_inner, 3, padding=1), nn.Conv2d(n_inner, n_out, 3, padding=1)]


def _leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.3)


def _initialise_lunet(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, a=0.3, nonlinearity="leaky_relu")
    elif isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)
