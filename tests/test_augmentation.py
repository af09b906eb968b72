import pytest
import torch

from tripletlib.augmentation import random_crop_flip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ramp(count=64, height=16, width=8):
    """Images whose first channel is the row and whose second is the column."""
    rows = torch.arange(float(height))[:, None].expand(height, width)
    columns = torch.arange(float(width)).expand(height, width)
    return torch.stack([rows, columns]).expand(count, 2, height, width).clone()


def test_shape_and_seed():
    images = torch.rand(5, 3, 32, 16)
    first, again = (random_crop_flip(images, generator(1)) for _ in range(2))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, random_crop_flip(images, generator(2)))


def test_rows_stay_upright_and_about_half_of_the_columns_are_flipped():
    result = random_crop_flip(ramp(400), generator())
    assert (result[:, 0, 1:] >= result[:, 0, :-1]).all()
    rising = (result[:, 1, 0, -1] > result[:, 1, 0, 0]).float().mean()
    assert 0.4 < rising < 0.6


def test_crops_are_enlarged_and_lie_everywhere():
    result = random_crop_flip(ramp(400), generator())
    spans = result[:, 0, -1, 0] - result[:, 0, 0, 0]
    assert spans.max() < 15  # 16 of 18 rows: less than the whole image
    tops = result[:, 0, 0, 0].unique()
    assert len(tops) == 3  # 18 - 16 + 1 places


def test_channels_move_together():
    grey = torch.rand(8, 1, 16, 8).expand(8, 3, 16, 8)
    result = random_crop_flip(grey, generator())
    torch.testing.assert_close(result[:, 0], result[:, 1])
    torch.testing.assert_close(result[:, 0], result[:, 2])


def test_equal_images_are_cropped_differently():
    image = torch.rand(1, 3, 32, 16).expand(16, 3, 32, 16)
    result = random_crop_flip(image, generator())
    assert len({crop.numpy().tobytes() for crop in result}) > 8


@pytest.mark.parametrize("size", [(128, 64), (64, 32), (7, 5)])
def test_values_stay_in_range_at_any_size(size):
    result = random_crop_flip(torch.rand(4, 3, *size), generator())
    assert 0 <= result.min() <= result.max() <= 1


def test_an_image_gets_the_same_crop_however_the_batch_is_dealt_out():
    images = torch.rand(7, 3, 16, 8)
    whole, one, other = generator(), generator(), generator()
    expected = random_crop_flip(images, whole)
    parts = random_crop_flip(images[:3], one, 0, 7), random_crop_flip(images[3:], other, 3, 7)
    torch.testing.assert_close(torch.cat(parts), expected)
    for end in (one, other):  # and all go on with the same random numbers
        assert torch.equal(end.get_state(), whole.get_state())
