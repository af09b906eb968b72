import pytest
import torch

from tripletlib.augmentation import random_crop_flip, random_erasing


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


def test_every_other_image_loses_a_rectangle_within_the_limits():
    images = torch.zeros(2000, 3, 64, 32)
    erased = random_erasing(images, generator())
    assert images.max() == 0
    covered = erased[:, 0] == 0.5
    assert torch.equal(erased, 0.5 * covered[:, None].expand(-1, 3, -1, -1))
    share = covered.flatten(1).float().mean(1)
    hit = share > 0
    assert 0.45 < hit.float().mean() < 0.55
    assert 0.01 < share[hit].min() < 0.03
    assert 0.37 < share[hit].max() < 0.41
    heights, widths = covered.any(2).sum(1)[hit], covered.any(1).sum(1)[hit]
    assert torch.equal(heights * widths, covered.sum((1, 2))[hit])  # no pixel of them is left
    whole = (heights < 64) & (widths < 32)  # not cut at the edges
    aspect = (heights / widths)[whole]
    assert 0.25 < aspect.min() < 0.4
    assert 2.5 < aspect.max() < 4
    assert covered.any(0).all()  # they lie everywhere


@pytest.mark.parametrize("change", [random_crop_flip, random_erasing])
def test_an_image_is_changed_alike_however_the_batch_is_dealt_out(change):
    images = torch.rand(7, 3, 16, 8)
    whole, one, other = generator(), generator(), generator()
    expected = change(images, whole)
    assert not torch.equal(expected, images)
    parts = change(images[:3], one, 0, 7), change(images[3:], other, 3, 7)
    torch.testing.assert_close(torch.cat(parts), expected)
    for end in (one, other):  # and all go on with the same random numbers
        assert torch.equal(end.get_state(), whole.get_state())
