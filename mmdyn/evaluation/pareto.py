"""Pareto-optimal points of cost and score."""

import math
from collections.abc import Sequence


def pareto_mask(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Tell which points no other point beats in both cost and score.

    Args:
        costs (Sequence[float]): Cost of each point; less is better.
        scores (Sequence[float]): Score of each point; more is better.

    Returns:
        list[bool]: True for each point for which no other point is cheaper and as good,
        better and as cheap, or both. Always False where the score is NaN.
    """

    def dominated(i: int) -> bool:
        return any(
            costs[j] <= costs[i]
            and scores[j] >= scores[i]
            and (costs[j] < costs[i] or scores[j] > scores[i])
            for j in range(len(costs))
        )

    return [not (math.isnan(scores[i]) or dominated(i)) for i in range(len(costs))]
