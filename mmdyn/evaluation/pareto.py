"""Pareto-optimal points of cost and score."""

from collections.abc import Sequence

import numpy as np


def pareto_mask(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """True for each point that no other beats: cheaper and as good, or the reverse.

    Less cost and more score is better; False where the score is NaN.
    """
    costs, scores = np.array(costs, dtype=float), np.array(scores, dtype=float)
    as_good = (costs[:, None] <= costs) & (scores[:, None] >= scores)
    better = (costs[:, None] < costs) | (scores[:, None] > scores)
    return (~(as_good & better).any(axis=0) & ~np.isnan(scores)).tolist()
