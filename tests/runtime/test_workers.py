"""Work in one thread, or in workers of one each; afterwards everything has its threads again."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from tripletlib.runtime import hardware, in_one_thread, single_threaded_workers


@pytest.fixture
def two_threads(set_threads):
    set_threads(2)
    np.ones((2, 2)) @ np.ones((2, 2))  # NumPy's library is loaded
    with threadpool_limits(2, user_api="blas"):
        yield


def blas_threads():
    """Of the libraries that were there at the first call; NumPy's is one of them."""
    return [one["num_threads"] for one in hardware._libraries().select(user_api="blas").info()]


def assert_two_threads():
    assert set(blas_threads()) == {2}
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor() as pool:  # a new thread takes the number of the process
        assert pool.submit(torch.get_num_threads).result() == 2


def test_workers_have_one_thread_each(two_threads):
    assert_two_threads()
    with single_threaded_workers(torch.device("cpu")) as spread:
        seen = list(spread(lambda _: (torch.get_num_threads(), *blas_threads()), range(8)))
    assert {count for counts in seen for count in counts} == {1}
    assert_two_threads()


def test_a_failed_block_is_told_and_the_threads_are_as_before(two_threads):
    with (
        pytest.raises(ZeroDivisionError),
        single_threaded_workers(torch.device("cpu")) as spread,
    ):
        list(spread(lambda block: 1 / block, range(3)))
    assert_two_threads()


@in_one_thread
def fail(embeddings):
    raise ArithmeticError(torch.get_num_threads())


def test_one_thread_also_ends_behind_an_error(two_threads):
    with pytest.raises(ArithmeticError, match=r"^1$"):
        fail(torch.ones(1))
    assert_two_threads()


def test_a_gpu_takes_one_block_after_the_other():
    with single_threaded_workers(torch.device("cuda")) as spread:
        assert spread is map


def test_only_for_a_cpu_is_there_one_thread(two_threads):
    with pytest.raises(ArithmeticError, match=r"^2$"):
        fail(torch.ones(1, device="meta"))  # any device but a CPU
