"""Search for the best points of a mixture model: an exit and its remaining functions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.saved_points import outermost_dynamic_module
from mmdyn.methods.cnmm.points import MixturePoints
from mmdyn.operating_point import OperatingPoint


class Candidate(NamedTuple):
    """A subnetwork to try: its point, exit from 1, if any, and number of functions.

    ``ranking`` is the one that it was pruned by, ``None`` if it has all functions that
    lead to the exit.
    """

    point: OperatingPoint
    exit: int | None
    functions: int
    ranking: str | None
    result: PointResult | None = None


def candidates(model: nn.Module, rankings: Sequence[str], levels: int) -> list[Candidate]:
    """List subnetworks to try at each exit, at evenly spread levels of pruning.

    Raises:
        ValueError: For a model with another backbone.
    """
    owner = outermost_dynamic_module(model)
    backbone = owner if isinstance(owner, MixturePoints) else owner.backbone
    if not isinstance(backbone, MixturePoints):
        raise ValueError(f'the model needs an mmdyn.CNMM, got a {type(owner).__name__}')
    if backbone is owner:
        dense = owner.dense_operating_point
        return _candidates_at(backbone, None, None, dense, rankings, levels)
    return [
        candidate
        for exit, (stage, whole) in enumerate(
            zip(owner.exit_stages, owner.operating_points), 1
        )
        for candidate in _candidates_at(backbone, [stage], exit, whole, rankings, levels)
    ]


def _candidates_at(backbone, stages, exit, whole, rankings, levels) -> list[Candidate]:
    """Subnetworks that end at an exit, ``whole`` being the point with all functions."""
    found = []
    for ranking in rankings:
        numbers = [*map(len, backbone.pruning_sequence(stages, ranking))]
        if not found:
            found.append(Candidate(whole, exit, numbers[0], None))
        places = np.linspace(0, len(numbers) - 1, levels + 1).round().astype(int)[1:]
        for number in dict.fromkeys(numbers[i] for i in places if i):
            point = backbone.pruned_point(number, exit, ranking)
            found.append(Candidate(point, exit, number, ranking))
    return found


def best_within(
    budgets: Sequence[float], costs: Sequence[float], scores: Sequence[float]
) -> np.ndarray:
    """Best score of the points whose costs are within each budget; else −infinity."""
    affordable = np.asarray(costs)[None] <= np.asarray(budgets)[:, None]
    return np.where(affordable, np.asarray(scores)[None], -np.inf).max(axis=1)


def thin_envelope(
    costs: Sequence[float], scores: Sequence[float], number: int
) -> list[int]:
    """Choose the most valuable points of the upper envelope, 2 or more at most.

    The cheapest and the best are always among them; while there are too many, the point
    is dropped without which the envelope loses the least area. They are given by their
    indices, from the cheapest.
    """
    order = sorted(
        np.flatnonzero(pareto_mask(costs, scores)).tolist(), key=lambda i: costs[i]
    )
    # Of points with equal cost and score one is enough.
    kept = [i for n, i in enumerate(order) if n == 0 or costs[i] > costs[order[n - 1]]]

    def lost_area(n: int) -> float:
        before, point, after = kept[n - 1 : n + 2]
        return (costs[after] - costs[point]) * (scores[point] - scores[before])

    while len(kept) > number:
        del kept[min(range(1, len(kept) - 1), key=lost_area)]
    return kept
