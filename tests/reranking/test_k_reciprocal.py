"""Re-ranked distances against the definition and against the published implementation."""

import importlib.metadata
import subprocess
import sys
from functools import cache

import numpy as np
import oracles
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from reid_like import draw_embeddings, draw_untied, has_near_ties

from tripletlib.reranking import NeighbourIndex, k_reciprocal

Q, N = 9, 44
EMBEDDINGS = draw_untied(N)
QUERY, GALLERY = EMBEDDINGS[:Q], EMBEDDINGS[Q:]
LAMBDAS = (0, 0.3, 1)


@cache
def by_definition(k1, k2, lambda_value):
    return np.array(oracles.re_ranked(EMBEDDINGS.tolist(), k1, k2, lambda_value)[0])


@pytest.mark.parametrize(
    ("k1", "k2"),
    [(1, 1), (1, 12), (2, 70), (3, 2), (5, 6), (6, 1), (11, 2), (20, 6), (40, 12), (70, 70)],
)
def test_distances_are_those_of_the_definition(k1, k2):
    for lambda_value in LAMBDAS:
        found = k_reciprocal(QUERY, GALLERY, k1, k2, lambda_value)
        assert found.dtype == np.float32
        assert found.shape == (Q, N - Q)
        assert_allclose(found, by_definition(k1, k2, lambda_value)[:Q, Q:], atol=1e-5)


def test_published_implementation_agrees():
    torchreid_files = pytest.importorskip("benchmarks.torchreid_files")
    try:
        re_ranking = torchreid_files.load("utils/rerank").re_ranking
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("torchreid is not installed; it comes with the bench extra")
    embeddings = draw_untied(50, dim=16)
    query, gallery = embeddings[:12], embeddings[12:]

    def between(a, b):
        return np.sqrt(np.square(a[:, None].astype(np.float64) - b).sum(2))

    distances = between(query, gallery), between(query, query), between(gallery, gallery)
    for k1 in range(1, 41):
        k2 = 1 + k1 % 12
        for lambda_value in LAMBDAS if k1 % 10 == 0 else (0.3,):
            expected = re_ranking(*distances, k1, k2, lambda_value)
            found = k_reciprocal(query, gallery, k1, k2, lambda_value)
            assert_allclose(found, expected, atol=1e-5, err_msg=f"{k1}, {k2}, {lambda_value}")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(2, 16),
    queries=st.integers(1, 15),
    k1=st.integers(1, 20),
    k2=st.integers(1, 20),
    lambda_value=st.floats(0, 1),
)
def test_small_sets(seed, n, queries, k1, k2, lambda_value):
    assume(queries < n)
    embeddings = draw_embeddings(n, dim=4, seed=seed)
    assume(not has_near_ties(embeddings))
    expected = np.array(oracles.re_ranked(embeddings.tolist(), k1, k2, lambda_value)[0])
    found = k_reciprocal(embeddings[:queries], embeddings[queries:], k1, k2, lambda_value)
    assert_allclose(found, expected[:queries, queries:], atol=1e-5)


@pytest.mark.parametrize("block", [1, 2, 5, 8, 9, 100])
def test_blocks_of_any_size_hold_the_same(block, monkeypatch):
    expected = k_reciprocal(QUERY, GALLERY)
    module = NeighbourIndex.blocks.__globals__  # the package has a function of the module's name
    monkeypatch.setitem(module, "_BLOCK_ENTRIES", 1)
    monkeypatch.setitem(module, "_BLOCK_ROWS", block)
    starts, blocks = zip(*NeighbourIndex(QUERY, GALLERY).blocks(20, 6, 0.3), strict=True)
    assert list(starts) == list(range(0, Q, block))
    assert all(0 < len(part) <= block and part.dtype == np.float32 for part in blocks)
    assert_allclose(np.concatenate(blocks), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, torch.bfloat16, "list"])
def test_any_floating_type_is_computed_in_float32(kind):
    if kind == "list":
        given_query, given_gallery = QUERY.tolist(), GALLERY.tolist()
    elif isinstance(kind, torch.dtype):
        given_query, given_gallery = torch.tensor(QUERY).to(kind), torch.tensor(GALLERY).to(kind)
    else:
        given_query, given_gallery = QUERY.astype(kind), GALLERY.astype(kind)

    def rounded(given):
        tensor = given if isinstance(given, torch.Tensor) else torch.tensor(np.array(given))
        return tensor.float().numpy()

    found = k_reciprocal(given_query, given_gallery)
    assert found.dtype == np.float32
    assert_allclose(found, k_reciprocal(rounded(given_query), rounded(given_gallery)), atol=1e-6)


def test_inputs_may_be_mixed_read_only_reversed_or_need_a_gradient():
    expected = k_reciprocal(QUERY, GALLERY)
    locked = GALLERY.copy()
    locked.flags.writeable = False
    assert_array_equal(k_reciprocal(QUERY, locked), expected)
    assert_array_equal(k_reciprocal(QUERY[::-1].copy()[::-1], GALLERY), expected)
    with_gradient = torch.tensor(QUERY, dtype=torch.float64, requires_grad=True)
    assert_allclose(k_reciprocal(with_gradient, GALLERY), expected, atol=1e-6)


@pytest.mark.parametrize("largest", [1e-20, 1e20, 2e38, 3.4e38])  # float32 ends at 3.403e38
def test_scaling_changes_nothing(largest):
    factor = largest / np.abs(EMBEDDINGS).max()
    scaled = [(part * factor).astype(np.float32) for part in (QUERY, GALLERY)]
    assert_allclose(k_reciprocal(*scaled), k_reciprocal(QUERY, GALLERY), atol=1e-5)


def test_moving_changes_nothing():
    found = k_reciprocal(QUERY + 4, GALLERY + 4)
    assert_allclose(found, k_reciprocal(QUERY, GALLERY), atol=1e-4)


@pytest.mark.parametrize(("row", "name"), [(2, "row 2 of query_emb"), (20, "row 11 of gallery")])
def test_one_image_far_out_is_named_and_changes_no_neighbours(row, name):
    embeddings = EMBEDDINGS.copy()
    embeddings[row] *= 1e6
    expected = np.array(oracles.re_ranked(embeddings.tolist(), 5, 3, 0.3)[0])[:Q, Q:]
    with pytest.warns(UserWarning, match=name + r".* times as far out as the median"):
        found = k_reciprocal(embeddings[:Q], embeddings[Q:], 5, 3)
    assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="1e15 times as large"):
        NeighbourIndex(QUERY, GALLERY).rerank_embedding(QUERY[0] * 1e20, 5, 3, 0.3)


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_when_all_images_coincide(value):
    query, gallery = np.full((3, 4), value, np.float16), np.full((30, 4), value, np.float16)
    index = NeighbourIndex(query, gallery)
    for lambda_value in LAMBDAS:
        found = k_reciprocal(query, gallery, 5, 3, lambda_value)
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert (found <= 1 - lambda_value + 1e-6).all()  # the original distance is 0
        assert np.isfinite(index.rerank_embedding(query[0], 5, 3, lambda_value)).all()


def test_duplicates_rank_before_all_others():
    gallery = np.concatenate([GALLERY, QUERY, QUERY])  # every query twice in the gallery
    found = k_reciprocal(QUERY, gallery, k1=4, k2=2)
    assert np.isfinite(found).all()
    nearest = np.sort(np.argsort(found, axis=1, kind="stable")[:, :2])
    assert found.min() >= 0
    assert found.max() <= 1
    expected = N - Q + np.arange(Q)[:, None] + [0, Q]
    assert_array_equal(nearest, expected)


@pytest.mark.parametrize(("queries", "images"), [(1, 1), (1, 5), (5, 1)])
def test_sets_smaller_than_every_window(queries, images):
    embeddings = EMBEDDINGS[: queries + images]
    expected = np.array(oracles.re_ranked(embeddings.tolist(), 20, 6, 0.3)[0])[:queries, queries:]
    found = k_reciprocal(embeddings[:queries], embeddings[queries:])
    assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("k1", "k2", "lambda_value"), [(1, 1, 0), (2, 3, 1), (5, 2, 0.3), (20, 6, 0.3), (40, 12, 0)]
)
def test_index_gives_one_row(k1, k2, lambda_value):
    index = NeighbourIndex(QUERY, GALLERY)
    expected = by_definition(k1, k2, lambda_value)
    for query in range(Q):
        found = index.rerank(query, k1, k2, lambda_value)
        assert found.dtype == np.float32
        assert_allclose(found, expected[query, Q:], atol=1e-5)
    for image in (0, 13, N - Q - 1):
        row = expected[Q + image, Q:].copy()
        row[image] = np.inf  # nobody looks for the image at hand
        found = index.rerank(image, k1, k2, lambda_value, "gallery")
        assert_allclose(found, row, atol=1e-5, rtol=1e-5)
    blocks = [part for _, part in index.blocks(k1, k2, lambda_value)]
    assert_allclose(np.concatenate(blocks), expected[:Q, Q:], atol=1e-5)


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (5, 2), (20, 6), (40, 12)])
def test_index_takes_a_new_image_as_one_more_query(k1, k2):
    for left_out in range(0, Q, 2):
        index = NeighbourIndex(np.delete(QUERY, left_out, axis=0), GALLERY)
        before = index.rerank(0, k1, k2, 0.3)
        found = index.rerank_embedding(QUERY[left_out], k1, k2, 0.3)
        assert_allclose(found, by_definition(k1, k2, 0.3)[left_out, Q:], atol=1e-5)
        assert_array_equal(index.rerank(0, k1, k2, 0.3), before)  # it came and went
        as_tensor = torch.tensor(QUERY[left_out])
        assert_array_equal(index.rerank_embedding(as_tensor, k1, k2, 0.3), found)


def test_a_large_gallery_is_only_encoded_within_reach():
    # Many identities far apart: the row must not depend on which images are left unencoded.
    embeddings = draw_embeddings(2000, dim=32, noise=0.9)
    index = NeighbourIndex(embeddings[:50], embeddings[50:])
    full = k_reciprocal(embeddings[:50], embeddings[50:])
    for query in (0, 20, 49):
        assert_allclose(index.rerank(query, 20, 6, 0.3), full[query], atol=1e-6)
    assert (full.min(1) < 0.7).all()  # some gallery images do share members


PEAK = """
import resource, sys, numpy as np
from tripletlib.reranking import NeighbourIndex
def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
generator = np.random.default_rng(0)
embeddings = generator.standard_normal((int(sys.argv[1]), 16), np.float32)
def rank_all(queries, others):
    for _ in NeighbourIndex(queries, others, k_max=20).blocks(20, 6, 0.3):
        pass
rank_all(embeddings[:50], embeddings[50:150])  # loads what a first call loads
before = peak()
rank_all(embeddings[:500], embeddings[500:])
print(peak() - before)
"""


def test_memory_stays_far_below_a_square():
    size = 10_000
    command = [sys.executable, "-c", PEAK, str(size)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < size**2 * 4 / 3  # a third of one float32 matrix; the published code holds eight


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k1": 0}, "k1 must be at least 1, got 0"),
        ({"k2": 0}, "k2 must be at least 1, got 0"),
        ({"lambda_value": -0.1}, r"lambda_value must be in \[0, 1\], got -0.1"),
        ({"lambda_value": 1.5}, r"lambda_value must be in \[0, 1\], got 1.5"),
        ({"lambda_value": float("nan")}, r"lambda_value must be in \[0, 1\], got nan"),
        ({"query_embeddings": QUERY[:0]}, r"query_embeddings must be .*got \[0, 8\]"),
        ({"gallery_embeddings": GALLERY[:0]}, r"gallery_embeddings must be .*got \[0, 8\]"),
        ({"query_embeddings": QUERY[0]}, r"query_embeddings must be .*got \[8\]"),
        ({"gallery_embeddings": GALLERY[:, :7]}, r"one D, got \[9, 8\] and \[35, 7\]"),
        (
            {"query_embeddings": np.where(np.arange(Q)[:, None] == 4, np.nan, QUERY)},
            r"query_embeddings \[9, 8\] has 1 rows that are not finite.*first is row 4",
        ),
        (
            {"gallery_embeddings": GALLERY.astype(np.float64) * 1e200},
            r"gallery_embeddings \[35, 8\] has 35 rows that are not finite",
        ),
    ],
)
def test_errors_name_the_parameter_and_the_sizes(change, message):
    arguments = {"query_embeddings": QUERY, "gallery_embeddings": GALLERY} | change
    with pytest.raises(ValueError, match=message):
        k_reciprocal(**arguments)


def test_errors_of_blocks_and_index():
    with pytest.raises(ValueError, match="k_max must be at least 1, got 0"):
        NeighbourIndex(QUERY, GALLERY, k_max=0)
    index = NeighbourIndex(QUERY, GALLERY, k_max=10)
    with pytest.raises(ValueError, match=r"k1 must be at most 10 and k2 at most 11, got 11 and 6"):
        index.rerank(0, 11, 6, 0.3)
    with pytest.raises(ValueError, match=r"at most 10 and k2 at most 11, got 5 and 12"):
        index.rerank(0, 5, 12, 0.3, "gallery")
    with pytest.raises(ValueError, match="lambda_value"):
        index.blocks(5, 2, lambda_value=2)
    for query in (-1, Q):
        with pytest.raises(ValueError, match=rf"query must be in 0 ... 8, got {query}"):
            index.rerank(query, 5, 6, 0.3)
    with pytest.raises(ValueError, match=r"gallery must be in 0 ... 34, got 35"):
        index.rerank(35, 5, 6, 0.3, "gallery")
    with pytest.raises(ValueError, match=r"embedding must be \[D\] = \[8\], got \[7\]"):
        index.rerank_embedding(QUERY[0, :7], 5, 6, 0.3)
    with pytest.raises(ValueError, match=r"embedding must be \[D\] = \[8\], got \[9, 8\]"):
        index.rerank_embedding(QUERY, 5, 6, 0.3)
    with pytest.raises(ValueError, match=r"embedding .* not finite"):
        index.rerank_embedding(QUERY[0] * np.nan, 5, 6, 0.3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_neighbours_may_be_searched_on_a_gpu():
    assert_allclose(
        k_reciprocal(QUERY, GALLERY, device="cuda"), k_reciprocal(QUERY, GALLERY), atol=1e-5
    )
