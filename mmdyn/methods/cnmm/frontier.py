"""The upper envelope of score against cost."""

from collections.abc import Sequence

import numpy as np

from mmdyn.evaluation.pareto import pareto_mask


def best_within(
    budgets: Sequence[float], costs: Sequence[float], scores: Sequence[float]
) -> np.ndarray:
    """Best score of the points within each budget.

    Args:
        budgets (Sequence[float]): Most that a point may cost.
        costs (Sequence[float]): Cost of each point.
        scores (Sequence[float]): Score of each point; more is better.

    Returns:
        np.ndarray: A score for each budget; minus infinity where no point is within.
    """
    affordable = np.asarray(costs)[None] <= np.asarray(budgets)[:, None]
    return np.where(affordable, np.asarray(scores)[None], -np.inf).max(axis=1)


def thin_envelope(
    costs: Sequence[float], scores: Sequence[float], number: int
) -> list[int]:
    """Choose points of the upper envelope, those that it would miss most.

    Args:
        costs (Sequence[float]): Cost of each point.
        scores (Sequence[float]): Score of each point; more is better.
        number (int): How many points to choose, at most, 2 or more.

    Returns:
        list[int]: Their places, from the cheapest. The cheapest and the best are always
        among them; as long as there are too many, the one goes without which the
        envelope loses the least area.
    """
    order = sorted(
        np.flatnonzero(pareto_mask(costs, scores)).tolist(), key=lambda i: costs[i]
    )
    # Of points that cost and score the same one is enough.
    left = [i for n, i in enumerate(order) if n == 0 or costs[i] > costs[order[n - 1]]]

    def lost_area(n: int) -> float:
        before, point, after = left[n - 1 : n + 2]
        return (costs[after] - costs[point]) * (scores[point] - scores[before])

    while len(left) > number:
        del left[min(range(1, len(left) - 1), key=lost_area)]
    return left
