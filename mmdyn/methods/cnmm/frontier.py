"""Search for the best points of a mixture model: an exit and its remaining functions."""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import NamedTuple

import numpy as np
from mmengine.runner import Runner
from torch import nn

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.saved_points import outermost_dynamic_module
from mmdyn.methods.cnmm.points import MixturePoints
from mmdyn.operating_point import OperatingPoint

Values = Sequence[float]


class Candidate(NamedTuple):
    """A subnetwork to try: its point, exit from 1, if any, and number of functions.

    ``ranking`` is the one that it was pruned by, ``None`` if it is whole.
    """

    point: OperatingPoint
    exit: int | None
    functions: int
    ranking: str | None
    result: PointResult | None = None


def candidates(model: nn.Module, rankings: Sequence[str], levels: int) -> list[Candidate]:
    """Subnetworks to try at each exit of a model, at evenly spread levels of pruning."""
    owner = outermost_dynamic_module(model)
    backbone = getattr(owner, 'backbone', owner)
    if not isinstance(backbone, MixturePoints):
        raise ValueError(f'the model needs an mmdyn.CNMM, got a {type(owner).__name__}')
    ends = [(None, None, owner.dense_operating_point)]
    if backbone is not owner:
        numbered = enumerate(zip(owner.exit_stages, owner.operating_points), 1)
        ends = [(exit, [stage], whole) for exit, (stage, whole) in numbered]
    found = []
    for exit, stages, whole in ends:
        number = len(backbone.subnetwork(stages=stages).functions)
        found.append(Candidate(whole, exit, number, None))
        for ranking in rankings:
            numbers = [*map(len, backbone.pruning_sequence(stages, ranking))]
            places = np.linspace(0, len(numbers) - 1, levels + 1).round().astype(int)
            for number in dict.fromkeys(numbers[i] for i in places if i):
                point = backbone.pruned_point(number, exit, ranking)
                found.append(Candidate(point, exit, number, ranking))
    return found


def measure(runner: Runner, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Run candidates on the validation data; those that can run, with their results."""
    model = outermost_dynamic_module(unwrapped(runner.model))
    model.offer_points([c.point for c in candidates])
    names = [c.point.name for c in candidates]
    loop = runner.build_val_loop(dict(type='mmdyn.OperatingPointValLoop', points=names))
    loop.run()
    results = {result.name: result for result in loop.results}
    measured = [c for c in candidates if c.point.name in results]
    return [c._replace(result=results[c.point.name]) for c in measured]


@dataclass
class Frontier:
    """The measured candidates, and the upper envelope of their scores against cost.

    Args:
        measured (Sequence[Candidate]): Candidates with results.
        rankings (Sequence[str]): The rankings they were pruned by.
        number (int): Number of points to choose, at most.
        metric (str | None): Metric to rank by, more being better; ``None``: mIoU if it
            was measured, otherwise the first.

    Attributes:
        exits (list[Candidate]): The exits with all their functions, from first to last.
        chosen (list[Candidate]): Points of the envelope to offer.

    Raises:
        ValueError: For an unknown metric.
    """

    measured: Sequence[Candidate]
    rankings: Sequence[str]
    number: InitVar[int]
    metric: str | None = None

    def __post_init__(self, number: int):
        known = list(self.measured[0].result.metrics)
        self.metric = self.metric or ('mIoU' if 'mIoU' in known else known[0])
        if self.metric not in known:
            raise ValueError(f'unknown metric {self.metric!r}; measured: {known}')
        self.exits = [c for c in self.measured if c.ranking is None]
        costs, scores = zip(*self.curve(self.measured))
        self.chosen = [self.measured[i] for i in thin_envelope(costs, scores, number)]

    def of_ranking(self, ranking: str) -> list[Candidate]:
        """The subnetworks of one ranking, the whole ones included."""
        return [c for c in self.measured if c.ranking in (None, ranking)]

    def curve(self, some: Sequence[Candidate]) -> list[tuple[float, float]]:
        """(MACs per image, score) of some candidates."""
        return [(c.result.macs_per_image, c.result.score(self.metric)) for c in some]

    def envelope(self, some: Sequence[Candidate]) -> list[tuple[float, float]]:
        """(MACs per image, best score within them) of some candidates."""
        costs, scores = zip(*self.curve(some))
        steps = sorted(set(costs))
        return list(zip(steps, best_within(steps, costs, scores).tolist()))

    def mean_scores(self) -> dict[str, float]:
        """Means of the best score over budgets from the cheapest exit's to the full cost.

        By ranking, and for the early exits alone. A model without exits has its cheapest
        subnetwork in the cheapest exit's place.
        """
        groups = {f'functions by {name}': self.of_ranking(name) for name in self.rankings}
        exits = self.curve(self.exits)
        lowest, highest = exits[0][0], exits[-1][0]
        if len(exits) == 1:
            lowest = max(min(self.curve(some))[0] for some in groups.values())
        if len(self.rankings) > 1:
            groups['functions by either'] = self.measured
        if len(exits) > 1:
            groups['early exits alone'] = self.exits
        budgets = np.linspace(lowest, highest, 200)
        return {
            name: float(best_within(budgets, *zip(*self.curve(some))).mean())
            for name, some in groups.items()
        }


def best_within(budgets: Values, costs: Values, scores: Values) -> np.ndarray:
    """Best score of the points whose costs are within each budget; else −infinity."""
    affordable = np.asarray(costs)[None] <= np.asarray(budgets)[:, None]
    return np.where(affordable, np.asarray(scores)[None], -np.inf).max(axis=1)


def thin_envelope(costs: Values, scores: Values, number: int) -> list[int]:
    """Indices of the most valuable points of the upper envelope, from the cheapest.

    The cheapest and the best are among them; while there are more than ``number``, at
    least 2, the point is dropped without which the envelope loses the least area.
    """
    front = np.flatnonzero(pareto_mask(costs, scores))
    # Of points with equal cost and score one is enough.
    _, cheapest_first = np.unique(np.take(costs, front), return_index=True)
    kept = front[cheapest_first].tolist()

    def lost_area(n: int) -> float:
        before, point, after = kept[n - 1 : n + 2]
        return (costs[after] - costs[point]) * (scores[point] - scores[before])

    while len(kept) > number:
        del kept[min(range(1, len(kept) - 1), key=lost_area)]
    return kept
