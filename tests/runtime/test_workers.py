"""Each worker computes with one thread, and afterwards everything has its threads again."""

import pytest
import torch
from threadpoolctl import threadpool_info

from tripletlib.runtime import single_threaded_workers


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_workers_have_one_thread_each(two_threads):
    with single_threaded_workers(torch.device("cpu")) as spread:
        seen = list(spread(lambda _: (torch.get_num_threads(), *blas_threads()), range(8)))
    assert {count for counts in seen for count in counts} == {1}


def test_a_failed_block_is_told_and_the_threads_are_as_before(two_threads):
    before = blas_threads()
    with (
        pytest.raises(ZeroDivisionError),
        single_threaded_workers(torch.device("cpu")) as spread,
    ):
        list(spread(lambda block: 1 / block, range(3)))
    assert torch.get_num_threads() == 2
    assert blas_threads() == before


def test_a_gpu_takes_one_block_after_the_other():
    with single_threaded_workers(torch.device("cuda")) as spread:
        assert spread is map
