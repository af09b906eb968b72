import numpy as np
import pytest


@pytest.fixture
def valid():
    """Arguments of two queries and three gallery images in which nothing is wrong."""
    return {
        "distances": np.zeros((2, 3)),
        "query_pids": [5, 6],
        "gallery_pids": [5, 5, 6],
        "query_camids": [1, 1],
        "gallery_camids": [2, 3, 2],
    }
