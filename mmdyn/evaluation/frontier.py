"""The upper envelope of score against cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmdyn.visualization.curve import pareto_mask

__all__ = ['best_within', 'spread_over_cost']


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


def spread_over_cost(
    costs: Sequence[float], scores: Sequence[float], number: int
) -> list[int]:
    """Choose points of the upper envelope that are spread over its cost.

    Args:
        costs (Sequence[float]): Cost of each point.
        scores (Sequence[float]): Score of each point; more is better.
        number (int): How many points to choose, at most.

    Returns:
        list[int]: Their places, from the cheapest: the best point within each of
        ``number`` budgets from the envelope's cheapest to its dearest point, in equal
        steps.
    """
    on_envelope = np.flatnonzero(pareto_mask(costs, scores))
    order = on_envelope[np.argsort(np.asarray(costs)[on_envelope], kind='stable')]
    rising = np.asarray(costs)[order]
    budgets = np.linspace(rising[0], rising[-1], number)
    budgets[-1] = rising[-1]  # not below it by rounding
    places = np.searchsorted(rising, budgets, side='right') - 1
    return [int(i) for i in order[np.unique(places)]]
