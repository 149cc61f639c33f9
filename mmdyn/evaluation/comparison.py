"""A report of several runs side by side."""

import math
from collections.abc import Mapping
from dataclasses import replace

from mmdyn.evaluation.report import OperatingPointReport, Report
from mmdyn.evaluation.tables import Column

DENSE_TOLERANCE = 0.01
"""Dense costs that differ by no more than this share count as equal: networks with
different exits on one backbone."""


class ReportComparison(Report):
    """Operating points of several models on one dataset.

    Costs are MACs as each report has them. That the reports are of one dataset is not
    checked.

    Args:
        reports (Mapping[str, OperatingPointReport]): The reports by their names, one or
            more.
        metric (str | None): The metric to draw and to rank by, measured in every report;
            more is better. ``None``: the one the first report ranks by, or else the first
            that all have.

    Attributes:
        dense_costs (list[float]): MACs per image with nothing skipped: the most of any
            report, or those of all if they differ by more than 1 %.
        points (list[PointResult]): All points, report by report. Their ``run`` is the
            name of the report, their ``cost_ratio`` the share of the one dense cost, NaN
            if there are several.

    Raises:
        ValueError: If not every report has the metric, or no metric is in all of them.
    """

    stem = 'comparison'
    title = 'Operating points of several reports'

    def __init__(
        self, reports: Mapping[str, OperatingPointReport], metric: str | None = None
    ):
        self.metric = _common_metric(reports, metric)
        self.dense_costs = [report.dense_macs_per_image for report in reports.values()]
        most = max(self.dense_costs)
        if most - min(self.dense_costs) <= DENSE_TOLERANCE * most:
            self.dense_costs = [most]
        self.points = [
            replace(point, run=name, cost_ratio=self._share(point.macs_per_image))
            for name, report in reports.items()
            for point in report.points
        ]

    def _share(self, macs: float) -> float:
        if len(self.dense_costs) > 1 or not self.dense_costs[0]:
            return math.nan
        return macs / self.dense_costs[0]

    def _columns(self) -> list[Column]:
        return [
            Column('report', 'report', [point.run for point in self.points]),
            Column('point', 'point', [point.name for point in self.points]),
            *self._score_and_cost_columns(),
            self._pareto_column(),
        ]

    def _caption(self) -> str:
        if len(self.dense_costs) > 1:
            cost = (
                f'No common cost: with nothing skipped the reports differ by more than '
                f'{DENSE_TOLERANCE:.0%}.'
            )
        else:
            dense = self.dense_costs[0] / 1e6
            cost = f'Cost: share of {dense:.2f} MMACs, where nothing is skipped.'
        return f'{cost} *: no point is both cheaper and better in {self.metric}.'


def _common_metric(
    reports: Mapping[str, OperatingPointReport], metric: str | None
) -> str:
    of_each = {name: report.scalar_metrics() for name, report in reports.items()}
    first, *others = of_each.values()
    measured = [name for name in first if all(name in names for names in others)]
    if not measured:
        raise ValueError(f'no metric is in every report: {of_each}')
    if metric is None:
        own = next(iter(reports.values())).metric
        return own if own in measured else measured[0]
    if metric not in measured:
        raise ValueError(
            f'unknown metric {metric!r}; measured in every report: {measured}'
        )
    return metric
