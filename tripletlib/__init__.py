"""Kernels for learning metric learning: triplet loss, hard mining and person re-identification."""

__version__ = "0.1.0"
