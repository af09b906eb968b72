"""Random crops, flips and erasing of a whole batch at once, on the device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ENLARGEMENT = 9 / 8


def random_crop_flip(
    images: Tensor, generator: torch.Generator, first: int = 0, total: int | None = None
) -> Tensor:
    """Enlarges each image by an eighth, crops its old size at a random place, flips every other.

    Args:
        images: float `[B, C, H, W]`.
        generator: a CPU generator; it draws for all devices, so that a run can be resumed.
        first: place of the first image in the batch that it is a part of.
        total: size of that batch; None if `images` is all of it. The generator draws for the whole
            batch, so that an image gets the same crop however the batch is dealt out.

    Returns:
        Images `[B, C, H, W]`, in channels-last memory order.

    Source:
        Hermans et al. 2017 (arXiv 1703.07737), section 4.2: "resize to 1 1/8 of H x W, random crop,
        random horizontal flip".

    Example:
        >>> random_crop_flip(torch.rand(4, 3, 128, 64), torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 128, 64])
    """
    count, _, height, width = images.shape
    larger_size = (round(height * ENLARGEMENT), round(width * ENLARGEMENT))
    larger = F.interpolate(images, larger_size, mode="bilinear", align_corners=False)
    whole = count if total is None else total
    rows = _windows(larger_size[0], height, whole, generator)  # [whole, H]
    columns = _windows(larger_size[1], width, whole, generator)  # [whole, W]
    flipped = torch.rand(whole, generator=generator) < 0.5
    columns = torch.where(flipped[:, None], columns.flip(1), columns)
    rows, columns = (part[first : first + count].to(images.device) for part in (rows, columns))
    each = torch.arange(count, device=images.device)
    # Reading pixels with their channels together, [B, H, W, C], is a copy of contiguous pieces.
    cropped = larger.permute(0, 2, 3, 1)[each[:, None, None], rows[:, :, None], columns[:, None]]
    return cropped.permute(0, 3, 1, 2)


def random_erasing(
    images: Tensor, generator: torch.Generator, first: int = 0, total: int | None = None
) -> Tensor:
    """Covers a random rectangle of half of the images, on average, with grey.

    It has 2 to 40 % of the area and an aspect ratio from 0.3 to 3.33, and is cut where the image
    has no room for it. Arguments and result are those of `random_crop_flip`.

    Source:
        Zhong et al. 2017 (arXiv 1708.04896), algorithm 1, with its probability and limits; one
        grey value in place of random ones.

    Example:
        >>> random_erasing(torch.ones(4, 3, 128, 64), torch.Generator().manual_seed(0)).min()
        tensor(0.5000)
    """
    count, _, height, width = images.shape
    whole = count if total is None else total
    chance, share, aspect, down, across = torch.rand(5, whole, generator=generator)
    area = (0.02 + 0.38 * share) * height * width  # pixels
    aspect = torch.exp((2 * aspect - 1) * math.log(1 / 0.3))  # height / width
    rows = _inside(height, down, (area * aspect).sqrt())[first : first + count]  # [B, H]
    columns = _inside(width, across, (area / aspect).sqrt())[first : first + count]  # [B, W]
    chosen = (chance < 0.5)[first : first + count]
    covered = chosen[:, None, None] & rows[:, :, None] & columns[:, None]  # [B, H, W]
    return images.masked_fill(covered[:, None].to(images.device), 0.5)


def _inside(size: int, places: Tensor, lengths: Tensor) -> Tensor:
    """Which of `size` pixels stretches of these lengths cover, at places from 0 to 1, the end."""
    lengths = lengths.round().clamp(1, size)
    starts = (places * (size - lengths)).round()
    pixels = torch.arange(size)
    return (pixels >= starts[:, None]) & (pixels < (starts + lengths)[:, None])  # [B, size]


def _windows(size: int, crop: int, count: int, generator: torch.Generator) -> Tensor:
    """Positions `[count, crop]` of randomly placed windows of `crop` pixels among `size`."""
    starts = torch.randint(0, size - crop + 1, (count, 1), generator=generator)
    return starts + torch.arange(crop)
