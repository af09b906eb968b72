"""k-reciprocal re-ranking (Zhong et al. 2017) on sparse sets, and an index for single queries."""

from tripletlib.reranking.k_reciprocal import RERANKING, NeighbourIndex, k_reciprocal

__all__ = ["RERANKING", "NeighbourIndex", "k_reciprocal"]
