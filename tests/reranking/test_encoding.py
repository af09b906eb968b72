"""Each step of the encoding against its definition."""

import numpy as np
import oracles
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from reid_like import draw_untied
from scipy.sparse import csr_array

from tripletlib.reranking.encoding import (
    encode,
    expand_query,
    expanded_neighbours,
    images_that_may_contain,
    jaccard_distances,
    k_reciprocal_neighbours,
)
from tripletlib.reranking.neighbours import find_neighbours

N = 60
EMBEDDINGS = draw_untied(N)
NEIGHBOURS = find_neighbours(torch.from_numpy(EMBEDDINGS), N)
RANKED = NEIGHBOURS.nearest.tolist()
ALL = np.arange(N)


def sets_of(matrix):
    return [set(row.nonzero()[0].tolist()) for row in matrix.toarray()]


@pytest.mark.parametrize("k", [0, 1, 2, 5, 20, 59, 80])
def test_k_reciprocal_neighbours_count_each_other(k):
    expected = [oracles.k_reciprocal_set(RANKED, i, k) for i in range(N)]
    found = k_reciprocal_neighbours(NEIGHBOURS.nearest, k, ALL)
    assert sets_of(found) == expected
    assert_array_equal(found.toarray(), found.toarray().T)
    some = np.array([7, 3, 59])
    assert sets_of(k_reciprocal_neighbours(NEIGHBOURS.nearest, k, some)) == [
        expected[i] for i in some
    ]


@pytest.mark.parametrize("k1", [1, 2, 3, 5, 6, 7, 12, 20, 40, 80])
def test_expanded_sets(k1):
    expected = [oracles.expanded_set(RANKED, i, k1) for i in range(N)]
    assert sets_of(expanded_neighbours(NEIGHBOURS.nearest, k1, ALL)) == expected
    some = np.array([7, 3, 59])
    assert sets_of(expanded_neighbours(NEIGHBOURS.nearest, k1, some)) == [expected[i] for i in some]


def test_a_candidate_joins_with_more_than_two_thirds_of_its_set():
    # Image 1's narrow set {1, 2, 3} has two thirds in R(0) = {0, 1, 2}, and does not join; a
    # fourth image would tip it. Lists are written by hand: windows of 1 + 4, narrow ones of 1 + 2.
    nearest = np.array(
        [
            [0, 1, 2, 4, 5],
            [1, 2, 3, 0, 4],
            [2, 1, 3, 0, 5],
            [3, 1, 2, 4, 5],
            [4, 5, 6, 3, 1],
            [5, 4, 6, 3, 2],
            [6, 4, 5, 3, 2],
        ]
    )
    assert oracles.k_reciprocal_set(nearest.tolist(), 0, 4) == {0, 1, 2}
    assert oracles.k_reciprocal_set(nearest.tolist(), 1, 2) == {1, 2, 3}
    assert sets_of(expanded_neighbours(nearest, 4, np.array([0]))) == [{0, 1, 2}]


@pytest.mark.parametrize("k1", [1, 5, 20])
def test_weights(k1):
    _, expected = oracles.re_ranked(EMBEDDINGS.tolist(), k1, 1, 0.3)
    sets = expanded_neighbours(NEIGHBOURS.nearest, k1, ALL)
    found = encode(NEIGHBOURS, ALL, sets)
    assert found.dtype == np.float32
    assert_allclose(found.toarray(), expected, atol=1e-6)
    assert_allclose(found.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("k1", [1, 2, 3, 5, 8])
def test_no_image_that_contains_a_member_is_missed(k1):
    sets = sets_of(expanded_neighbours(NEIGHBOURS.nearest, k1, ALL))
    for members in ([0], [5, 9], list(range(0, N, 7))):
        found = images_that_may_contain(NEIGHBOURS.nearest, k1, np.array(members))
        assert {i for i in range(N) if sets[i] & set(members)} <= set(found.tolist())
    assert len(images_that_may_contain(NEIGHBOURS.nearest, 1, np.array([0]))) < N / 2


@pytest.mark.parametrize("k2", [1, 2, 6, 80])
def test_query_expansion_is_a_mean(k2):
    encodings = csr_array(np.random.default_rng(0).random((N, N), np.float32))
    found = expand_query(NEIGHBOURS.nearest, k2, ALL, ALL, encodings).toarray()
    dense = encodings.toarray()
    assert_allclose(found, [dense[RANKED[i][:k2]].mean(0) for i in ALL], rtol=1e-5)
    # Who is not encoded counts as 0.
    some = np.arange(0, N, 2)
    dense[1::2] = 0
    found = expand_query(NEIGHBOURS.nearest, k2, ALL, some, encodings[some]).toarray()
    assert_allclose(found, [dense[RANKED[i][:k2]].mean(0) for i in ALL], rtol=1e-5, atol=1e-7)


def test_jaccard_distance_by_definition():
    generator = np.random.default_rng(1)
    a, b = (generator.random((n, 30)) * (generator.random((n, 30)) < 0.2) for n in (5, 11))
    a, b = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
    expected = 1 - np.minimum(a[:, None], b).sum(2) / np.maximum(a[:, None], b).sum(2)
    assert_allclose(jaccard_distances(csr_array(a), csr_array(b.T)), expected, atol=1e-6)
    apart = jaccard_distances(csr_array(np.eye(2)), csr_array(np.eye(2)))
    assert_array_equal(apart, 1 - np.eye(2))
