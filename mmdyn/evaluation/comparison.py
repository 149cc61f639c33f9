"""A report of several runs side by side."""

import math
from collections.abc import Mapping
from dataclasses import replace

from mmdyn.evaluation.report import OperatingPointReport, Report

DENSE_TOLERANCE = 0.01
"""Dense costs that differ by no more than this share count as equal: networks with
different exits on one backbone."""


class ReportComparison(Report):
    """Operating points of several models on one dataset (which is not checked).

    Its points have the name of their report as ``run``, no latency, and the share of the
    most dense cost as ``cost_ratio``, NaN if dense costs differ by more than 1 %.

    Args:
        reports (Mapping[str, OperatingPointReport]): One or more reports by their names.
        metric (str | None): The metric to draw and to rank by, measured in every report;
            more is better. ``None``: the one the first report ranks by, or else the first
            that all have.

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
        common = most if len(self.dense_costs) == 1 and most else math.nan
        self.points = [
            replace(
                point, run=name, cost_ratio=point.macs_per_image / common, latency_ms={}
            )
            for name, report in reports.items()
            for point in report.points
        ]

    def _caption(self) -> str:
        if len(self.dense_costs) > 1:
            return (
                f'No common cost: with nothing skipped the reports differ by more than '
                f'{DENSE_TOLERANCE:.0%}.'
            )
        dense = self.dense_costs[0] / 1e6
        return f'Cost: share of {dense:.2f} MMACs, where nothing is skipped.'


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
