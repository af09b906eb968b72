"""The neighbour search against sorting everything."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from reid_like import draw_embeddings, draw_untied

from tripletlib.reranking.neighbours import find_neighbours, with_extra_image


def by_sorting(embeddings):
    points = embeddings.astype(np.float64)
    squared = np.square(points[:, None] - points).sum(2)
    return np.argsort(squared, axis=1, kind="stable"), squared


@pytest.mark.parametrize(
    ("n", "k"), [(1, 1), (1, 7), (2, 1), (30, 2), (30, 30), (50, 1), (50, 7), (50, 80)]
)
def test_nearest_and_farthest_are_those_of_the_full_matrix(n, k):
    embeddings = draw_untied(n, seed=n)
    order, squared = by_sorting(embeddings)
    expected = np.take_along_axis(squared, order[:, :k], 1)
    for block in (None, 1, 7):
        found = find_neighbours(torch.from_numpy(embeddings), k, block=block)
        assert_array_equal(found.nearest, order[:, :k])
        scale = found.frame.scale.item() ** 2
        assert_allclose(found.distances * scale, expected, rtol=1e-5, atol=1e-4)
        assert_allclose(found.farthest * scale, squared.max(1), rtol=1e-5)


def test_a_large_set_is_searched_by_groups():
    embeddings = draw_embeddings(3000, dim=32)
    found = find_neighbours(torch.from_numpy(embeddings), 5, block=999)
    for i in range(0, 3000, 500):
        squared = np.square(embeddings.astype(np.float64) - embeddings[i]).sum(1)
        assert_array_equal(found.nearest[i], np.argsort(squared)[:5])


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e-30, 1e30])
def test_coinciding_images_are_each_their_own_nearest(value):
    found = find_neighbours(torch.full((40, 5), value), 4)
    assert_array_equal(found.nearest[:, 0], np.arange(40))
    assert_array_equal(np.sort(found.nearest)[:, :-1] < np.sort(found.nearest)[:, 1:], True)
    assert_array_equal(found.distances, 0)
    assert_array_equal(found.farthest, 0)


def test_duplicates_follow_the_image_itself():
    embeddings = torch.from_numpy(draw_embeddings(20)).repeat(3, 1)
    found = find_neighbours(embeddings, 3)
    assert_array_equal(found.nearest[:, 0], np.arange(60))
    assert_array_equal(found.nearest % 20, np.arange(60)[:, None] % 20 * np.ones((1, 3), int))
    assert_allclose(found.distances, 0, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_moving_and_scaling_changes_no_neighbour(scale):
    embeddings = draw_untied(60)
    plain = find_neighbours(torch.from_numpy(embeddings), 9)
    moved = find_neighbours(torch.from_numpy((embeddings + 8) * np.float32(scale)), 9)
    assert_array_equal(moved.nearest, plain.nearest)
    shares = [found.distances / found.farthest[:, None] for found in (moved, plain)]
    assert_allclose(*shares, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 5), (3, 5), (5, 5), (60, 1), (60, 9)])
def test_extra_image_joins_the_lists_it_belongs_to(n, k):
    embeddings = draw_untied(n + 1, seed=3)
    before = find_neighbours(torch.from_numpy(embeddings[:n]), k)
    copy = before.nearest.copy()
    joined = with_extra_image(before, torch.from_numpy(embeddings[n]), k)
    expected = find_neighbours(torch.from_numpy(embeddings), k)
    assert_array_equal(joined.nearest, expected.nearest)
    assert_array_equal(before.nearest, copy)
    ratio = (before.frame.scale / expected.frame.scale).item() ** 2
    assert_allclose(joined.distances * ratio, expected.distances, rtol=1e-4, atol=1e-5)
    assert_allclose(joined.farthest * ratio, expected.farthest, rtol=1e-4, atol=1e-6)
    assert len(joined) == n + 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_finds_the_same():
    embeddings = torch.from_numpy(draw_embeddings(2000, dim=32))
    gpu, cpu = find_neighbours(embeddings, 21, "cuda"), find_neighbours(embeddings, 21)
    # Near-ties may fall either way; all other places agree.
    assert (gpu.nearest == cpu.nearest).mean() > 0.999
    assert_allclose(gpu.distances, cpu.distances, rtol=1e-4, atol=1e-5)
