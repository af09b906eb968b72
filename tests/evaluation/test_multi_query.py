"""Multi-query pooling against means by hand."""

import math

import numpy as np
import pytest
from drawn_tables import draw_table
from numpy.testing import assert_allclose

from tripletlib.evaluation import evaluate_embeddings, pool_queries


def test_pooling_takes_the_mean_of_an_identity_in_a_camera():
    queries = draw_table(40, seed=1)
    pooled = pool_queries(queries)
    pairs = sorted(set(zip(queries.pids.tolist(), queries.camids.tolist(), strict=True)))
    assert [*zip(pooled.pids.tolist(), pooled.camids.tolist(), strict=True)] == pairs
    for row, (pid, camid) in enumerate(pairs):
        members = [i for i in range(40) if queries.pids[i] == pid and queries.camids[i] == camid]
        mean = [
            math.fsum(queries.embeddings[i, d].item() for i in members) / len(members)
            for d in range(8)
        ]
        assert_allclose(pooled.embeddings[row], mean, rtol=1e-5, atol=1e-6)
        assert pooled.paths[row] == queries.paths[members[0]]
    assert (pooled.step, pooled.tta, pooled.embeddings.dtype) == (3, "none", np.float32)


def test_pooling_other_images_asks_only_for_the_queries():
    single = draw_table(1, 0, pids=np.array([4]), camids=np.array([2]))
    images = draw_table(4, 1, pids=np.array([4, 4, 4, 5]), camids=np.array([2, 1, 2, 2]))
    pooled = pool_queries(single, images)
    assert (pooled.pids.tolist(), pooled.camids.tolist()) == ([4], [2])
    members = np.concatenate([single.embeddings, images.embeddings[[0, 2]]])
    assert_allclose(pooled.embeddings[0], members.mean(0), rtol=1e-5)
    assert pooled.paths.tolist() == single.paths.tolist()


def test_pooling_single_images_changes_no_score():
    table, gallery = draw_table(18, 1), draw_table(60, 2)
    pairs = np.arange(18)
    queries = draw_table(18, 1, pids=pairs // 3 + 1, camids=pairs % 3 + 1)
    assert len(pool_queries(queries)) == len(table)
    expected = evaluate_embeddings(queries, gallery, device="cpu")
    pooled = evaluate_embeddings(pool_queries(queries), gallery, device="cpu")
    assert_allclose(pooled.average_precision, expected.average_precision)


def test_pooling_averages_noise_away():
    queries, gallery = draw_table(120, seed=1), draw_table(300, seed=2)
    single = evaluate_embeddings(queries, gallery, device="cpu")
    pooled = evaluate_embeddings(pool_queries(queries), gallery, device="cpu")
    assert pooled.map > single.map + 0.01


def test_pooling_needs_tables_of_one_network():
    single = draw_table(1, 0)
    for changed in ({"step": 4}, {"tta": "flip"}, {"dim": 3}, {"weights": "another"}):
        with pytest.raises(ValueError, match="one network"):
            pool_queries(single, draw_table(5, 1, **changed))
