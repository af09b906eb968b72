"""The steps of k-reciprocal encoding: who are mutual neighbours, and how alike two images' are.

Equations and sections are those of Zhong et al. 2017 (arXiv 1701.08398). A set of images is a row
of a sparse matrix with a column for each of the N images. `nearest` holds everybody's neighbours,
see `Neighbours`; `rows` are the n images that are asked for, so that no others are computed; k1 and
k2 are those of `k_reciprocal`.
"""

import numpy as np
from scipy.sparse import csr_array

from tripletlib.reranking.neighbours import Neighbours

_PAIRS = 2**12  # pairs of embeddings compared at once


def k_reciprocal_neighbours(nearest: np.ndarray, k: int, rows: np.ndarray) -> csr_array:
    """R(i, k): the images among the k nearest of i which count i among their k nearest.

    As in every public implementation, the k nearest are the image itself and k others. `nearest` is
    `[N, k + 1 or more]`, each image first among its own neighbours. Returns ones where column j is
    in R(i, k), `[n, N]`; equation 2.

    Example:
        >>> nearest = np.array([[0, 1], [1, 0], [2, 1]])
        >>> k_reciprocal_neighbours(nearest, k=1, rows=np.arange(3)).toarray()
        array([[1, 1, 0],
               [1, 1, 0],
               [0, 0, 1]], dtype=int32)
    """
    windows = nearest[:, : k + 1]
    forward = windows[rows]  # [n, k + 1]
    mutual = np.empty(forward.shape, bool)
    step = max(1, 2**22 // forward.shape[1] ** 2)  # neighbours of neighbours: 16 MB at once
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        backward = windows[forward[part]]  # [step, k + 1, k + 1]
        mutual[part] = (backward == rows[part, None, None]).any(2)
    members, counts = forward[mutual], mutual.sum(1)
    ones = np.ones(len(members), np.int32)
    return csr_array((ones, members, _starts(counts)), shape=(len(rows), len(nearest)))


def expanded_neighbours(nearest: np.ndarray, k1: int, rows: np.ndarray) -> csr_array:
    """R*(i, k1): R(i, k1), and with it the narrower R(j, k1 / 2) of each member j that fits in.

    It fits when more than two thirds of it are in R(i, k1). Half of k1 is rounded half to even.
    Returns positive numbers where column j is in R*(i, k1), `[n, N]`; equation 3.
    """
    own = k_reciprocal_neighbours(nearest, k1, rows)  # [n, N]
    candidates, position = np.unique(own.indices, return_inverse=True)
    narrow = k_reciprocal_neighbours(nearest, round(k1 / 2), candidates)  # [m, N]
    # The same members as `own`, counted among the m candidates.
    members = csr_array((own.data, position, own.indptr), shape=(len(rows), len(candidates)))
    common = (own @ narrow.T).multiply(members).tocsr()  # [n, m] how many of R(j) are in R(i)
    sizes = np.diff(narrow.indptr)  # [m]
    common.data = (3 * common.data > 2 * sizes[common.indices]).astype(np.int32)
    common.eliminate_zeros()
    return own + common @ narrow


def images_that_may_contain(nearest: np.ndarray, k1: int, members: np.ndarray) -> np.ndarray:
    """All images i in whose expanded set one of the images j in `members` is, and some more.

    Being a k-reciprocal neighbour is mutual. So j is in R*(i) only if i is in R(j, k1), or in
    R(c, k1) of some c in R(j, k1 / 2). Returns indices in ascending order.
    """
    candidates = k_reciprocal_neighbours(nearest, round(k1 / 2), members)
    return np.unique(k_reciprocal_neighbours(nearest, k1, np.unique(candidates.indices)).indices)


def encode(neighbours: Neighbours, rows: np.ndarray, sets: csr_array) -> csr_array:
    """V: a weight for every member of an image's set, `[n, N]`; near members weigh more.

    Returns float32 `[n, N]`; equation 7, with each row divided by its sum.
    """
    sizes = np.diff(sets.indptr)
    images = np.repeat(rows, sizes)
    weights = np.empty(len(images), np.float32)
    for start in range(0, len(images), _PAIRS):
        part = slice(start, start + _PAIRS)
        difference = neighbours.points[images[part]]  # [P, D], a copy
        difference -= neighbours.points[sets.indices[part]]
        squared = np.einsum("pd,pd->p", difference, difference)
        weights[part] = np.exp(-neighbours.as_shares(squared, images[part]))
    sums = np.add.reduceat(weights, sets.indptr[:-1])  # no set is empty
    return csr_array((weights / np.repeat(sums, sizes), sets.indices, sets.indptr), sets.shape)


def expand_query(
    nearest: np.ndarray, k2: int, rows: np.ndarray, encoded: np.ndarray, encodings: csr_array
) -> csr_array:
    """Local query expansion: the mean encoding of an image and its nearest, k2 in all.

    `encodings` are the rows of V of the images `encoded`, `[m, N]`; all others count as 0. Returns
    float32 `[n, N]`; section 3.5.
    """
    position = np.full(len(nearest), -1)
    position[encoded] = np.arange(len(encoded))
    averaged = position[nearest[rows, :k2]]  # [n, k2]
    known = averaged >= 0
    share = np.full(np.count_nonzero(known), 1 / averaged.shape[1], np.float32)
    shape = (len(rows), len(encoded))
    return csr_array((share, averaged[known], _starts(known.sum(1))), shape) @ encodings


def jaccard_distances(encodings: csr_array, transposed: csr_array) -> np.ndarray:
    """1 - sum of the smaller weights / sum of the larger ones, float32 `[b, G]`.

    For all pairs of two sets of images: the encodings of one, `[b, N]`, and those of the other,
    transposed, `[N, G]`; weights sum to 1, and those where no row of the first has any may be left
    out of the second. Equations 8 to 10.
    """
    size = (encodings.shape[0], transposed.shape[1])
    rows = np.repeat(np.arange(size[0]), np.diff(encodings.indptr))
    starts = transposed.indptr[encodings.indices]
    counts = transposed.indptr[encodings.indices + 1] - starts
    # Positions of all entries of the members' rows, one after the other.
    ends = np.cumsum(counts, dtype=np.int64)
    positions = np.arange(counts.sum()) + np.repeat(starts - ends + counts, counts)
    smaller = np.minimum(np.repeat(encodings.data, counts), transposed.data[positions])
    cells = np.repeat(rows * size[1], counts) + transposed.indices[positions]
    sums = np.bincount(cells, smaller, minlength=size[0] * size[1])
    shared = sums.astype(np.float32).reshape(size)
    return 1 - shared / (2 - shared)  # smaller + larger weights sum to 1 + 1


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])
