"""Pedestrians drawn from a seed: a data set of the Market-1501 layout that shows nobody."""
