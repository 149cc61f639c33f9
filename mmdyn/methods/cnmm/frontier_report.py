"""Measured subnetworks of a mixture model: a table, a file and a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.runner import Runner

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.evaluation.saved_points import outermost_dynamic_module
from mmdyn.evaluation.tables import Column, number_column, print_table, write_table
from mmdyn.methods.cnmm.drawing import draw_frontier
from mmdyn.methods.cnmm.frontier import Candidate, best_within, thin_envelope
from mmdyn.operating_point import OperatingPoint


def measure(runner: Runner, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Run candidates on the validation data; those that can run, with their results."""
    model = outermost_dynamic_module(unwrapped(runner.model))
    model.offer_points([candidate.point for candidate in candidates])
    names = [candidate.point.name for candidate in candidates]
    loop = runner.build_val_loop(dict(type='mmdyn.OperatingPointValLoop', points=names))
    loop.run()
    results = {result.name: result for result in loop.results}
    return [
        candidate._replace(result=results[candidate.point.name])
        for candidate in candidates
        if candidate.point.name in results
    ]


class Frontier:
    """The measured candidates, and the upper envelope of their scores against cost.

    Args:
        measured (Sequence[Candidate]): Candidates with results.
        rankings (Sequence[str]): The rankings they were pruned by.
        number (int): Number of points to choose, at most.
        metric (str | None): Metric to rank by, more being better; ``None``: mIoU if it
            was measured, otherwise the first.

    Attributes:
        chosen (list[Candidate]): Points of the envelope to offer.

    Raises:
        ValueError: For an unknown metric.
    """

    def __init__(
        self,
        measured: Sequence[Candidate],
        rankings: Sequence[str],
        number: int,
        metric: str | None = None,
    ):
        known = list(measured[0].result.metrics)
        self.metric = metric or ('mIoU' if 'mIoU' in known else known[0])
        if self.metric not in known:
            raise ValueError(f'unknown metric {metric!r}; measured: {known}')
        self.measured = list(measured)
        self.rankings = rankings
        costs, scores = zip(*self.curve(self.measured))
        self.chosen = [self.measured[i] for i in thin_envelope(costs, scores, number)]

    @property
    def points(self) -> list[OperatingPoint]:
        """The chosen operating points."""
        return [candidate.point for candidate in self.chosen]

    @property
    def exits(self) -> list[Candidate]:
        """The exits with all their functions, from first to last."""
        return [candidate for candidate in self.measured if candidate.ranking is None]

    def of_ranking(self, ranking: str) -> list[Candidate]:
        """The subnetworks of one ranking, the whole ones included."""
        return [c for c in self.measured if c.ranking in (None, ranking)]

    def curve(self, some: Sequence[Candidate]) -> list[tuple[float, float]]:
        """(MACs per image, score) of some candidates."""
        return [(c.result.macs_per_image, c.result.score(self.metric)) for c in some]

    def mean_scores(self) -> dict[str, float]:
        """Mean of the best score over budgets from the cheapest exit's to the full cost.

        By ranking, and for the early exits alone. A model without exits has its cheapest
        subnetwork in the cheapest exit's place.
        """
        exits = self.curve(self.exits)
        lowest, highest = exits[0][0], exits[-1][0]
        if len(exits) == 1:
            lowest = max(min(self.curve(self.of_ranking(r)))[0] for r in self.rankings)
        budgets = np.linspace(lowest, highest, 200)

        def mean(some: list[Candidate]) -> float:
            return float(best_within(budgets, *zip(*self.curve(some))).mean())

        means = {
            f'functions by {name}': mean(self.of_ranking(name)) for name in self.rankings
        }
        if len(self.rankings) > 1:
            means['functions by either'] = mean(self.measured)
        if len(exits) > 1:
            means['early exits alone'] = mean(self.exits)
        return means

    def print(self) -> None:
        """Print the chosen points and the mean scores."""
        (dense_macs, _) = self.curve(self.exits)[-1]
        macs, scores = map(np.array, zip(*self.curve(self.chosen)))
        columns = [
            Column('point', 'point', [point.name for point in self.points]),
            number_column('functions', '', [c.functions for c in self.chosen], 0),
            number_column(self.metric, '', scores, 2),
            number_column('MMACs', '', macs, 2, unit=1e6),
            number_column('cost', '', macs / dense_macs, 3),
        ]
        print_table(columns, 'Points to offer')
        print('Mean of the best score over budgets up to the full cost:')
        for name, mean in self.mean_scores().items():
            print(f'  {name}: {mean:.2f}')

    def write(self, folder: Path) -> list[Path]:
        """Write all candidates as ``cnmm_frontier.csv`` and ``.png``."""
        macs, scores = zip(*self.curve(self.measured))
        columns = [
            Column('', 'point', [c.point.name for c in self.measured]),
            Column('', 'exit', [c.exit for c in self.measured]),
            Column('', 'functions', [c.functions for c in self.measured]),
            Column('', 'ranking', [c.ranking for c in self.measured]),
            Column('', 'macs_per_image', macs),
            Column('', self.metric, scores),
        ]
        table = write_table(columns, folder / 'cnmm_frontier.csv')
        picture = table.with_suffix('.png')
        self._draw(picture)
        return [table, picture]

    def _draw(self, path: Path) -> None:
        pruned, envelopes = {}, {}
        for whole in self.exits:
            name = 'all outputs' if whole.exit is None else f'exit {whole.exit}'
            some = [c for c in self.measured if c.exit == whole.exit]
            pruned[name] = self.curve(some)
        for ranking in self.rankings:
            costs, scores = zip(*self.curve(self.of_ranking(ranking)))
            steps = sorted(set(costs))
            best = best_within(steps, costs, scores).tolist()
            envelopes[f'by {ranking}'] = list(zip(steps, best))
        exits, chosen = self.curve(self.exits), self.curve(self.chosen)
        draw_frontier(pruned, exits, envelopes, chosen, path, self.metric)
