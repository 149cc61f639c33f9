"""Pareto-optimal points of cost and score."""

from collections.abc import Sequence

import numpy as np


def pareto_mask(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Tell which points no other point beats in both cost and score.

    Args:
        costs (Sequence[float]): Cost of each point; less is better.
        scores (Sequence[float]): Score of each point; more is better.

    Returns:
        list[bool]: True for each point for which no other point is cheaper and as good,
        better and as cheap, or both. Always False where the score is NaN.
    """
    costs, scores = np.array(costs, dtype=float), np.array(scores, dtype=float)
    as_good = (costs[:, None] <= costs) & (scores[:, None] >= scores)
    better = (costs[:, None] < costs) | (scores[:, None] > scores)
    return (~(as_good & better).any(axis=0) & ~np.isnan(scores)).tolist()
