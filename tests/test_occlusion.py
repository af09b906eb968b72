"""Occlusion maps against networks of which it is known where they look."""

import numpy as np
import pytest
import torch
from torch import nn

from tripletlib.models import LuNet
from tripletlib.occlusion import occlusion_map, randomised

TOP, LEFT = slice(8, 12), slice(10, 14)  # all that the toy network sees


def embed_one_region(images):
    return images[:, :, TOP, LEFT].reshape(len(images), -1).astype(float)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 16), dtype=np.uint8)


def test_the_map_lights_where_the_network_looks_and_nowhere_else(image):
    """Compared with itself: whatever is covered of what counts makes the two less alike."""
    found = occlusion_map(embed_one_region, image, embed_one_region(image[None])[0])
    assert found.shape == (32, 16)
    region = np.zeros((32, 16), bool)
    region[TOP, LEFT] = True
    assert (found[region] > 0).all()
    near = np.zeros_like(region)
    near[8 - 3 : 12 + 3, 10 - 3 :] = True  # a square that reaches the region covers these too
    assert (found[~near] == 0).all()
    assert found[region].mean() > 2 * found[near & ~region].mean()


def test_what_sets_two_pictures_apart_is_negative(image):
    """The other picture is grey all over, so each covered pixel brings the two nearer."""
    grey = np.broadcast_to(image.mean((1, 2), keepdims=True).round().astype(np.uint8), image.shape)
    found = occlusion_map(embed_one_region, image, embed_one_region(grey[None])[0])
    assert (found[TOP, LEFT] < 0).all()
    assert found.max() == 0


@pytest.mark.parametrize(("side", "size"), [(4, (32, 16)), (3, (13, 17)), (2, (10, 7))])
def test_it_is_the_mean_over_the_squares_that_cover_a_pixel(side, size):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (2, *size), dtype=np.uint8)
    weights, other = rng.normal(size=(5, image.size)), rng.normal(size=5)

    def embed(images):
        return images.reshape(len(images), -1) @ weights.T

    def distance(picture):
        return np.sqrt(((embed(picture[None])[0] - other) ** 2).sum())

    colour = image.mean((1, 2)).round()
    changes = [[[] for _ in range(size[1])] for _ in range(size[0])]
    for top in range(side // 2 - side, size[0], side // 2):
        for left in range(side // 2 - side, size[1], side // 2):
            inside = [
                (y, x)
                for y in range(max(top, 0), min(top + side, size[0]))
                for x in range(max(left, 0), min(left + side, size[1]))
            ]
            picture = image.copy()
            for y, x in inside:
                picture[:, y, x] = colour
            for y, x in inside:
                changes[y][x].append(distance(picture) - distance(image))
    expected = [[np.mean(pixel) for pixel in line] for line in changes]
    np.testing.assert_allclose(occlusion_map(embed, image, other), expected, rtol=1e-9)


def test_a_randomised_copy_forgets_everything_and_leaves_the_network_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # whose states would all be kept
    torch.manual_seed(3)
    model = LuNet(8, 0.125, (64, 32)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    copy = randomised(model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    weights = zip(model.modules(), copy.modules(), strict=True)
    changed = [
        not torch.equal(one.weight, other.weight)
        for one, other in weights
        if isinstance(one, nn.Conv2d | nn.Linear)
    ]
    assert changed
    assert all(changed)
    assert not copy.training
    again = randomised(model)
    assert all(map(torch.equal, copy.parameters(), again.parameters()))
