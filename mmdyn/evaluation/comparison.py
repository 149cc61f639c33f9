"""A report of several runs side by side."""

import math
from collections.abc import Mapping
from dataclasses import replace

from mmdyn.evaluation.report import OperatingPointReport, Report

DENSE_TOLERANCE = 0.01  # networks on one backbone differ by that much in their exits


class ReportComparison(Report):
    """Operating points of several models on one dataset (which is not checked).

    Points have the name of their report as ``run``, no latency, and the share of the
    highest dense cost as ``cost_ratio``, NaN if dense costs differ by more than 1 %. The
    metric must be measured in every report; ``None``: the one that the first report ranks
    by, or else the first that all have.
    """

    stem = 'comparison'
    title = 'Operating points of several reports'

    def __init__(
        self, reports: Mapping[str, OperatingPointReport], metric: str | None = None
    ):
        self.metric = _common_metric(reports, metric)
        costs = [report.dense_macs_per_image for report in reports.values()]
        most = max(costs)
        similar = most - min(costs) <= DENSE_TOLERANCE * most
        self.dense_costs = [most] if similar else costs
        common = most if similar and most else math.nan
        self.points = [
            replace(p, run=name, cost_ratio=p.macs_per_image / common, latency_ms={})
            for name, report in reports.items()
            for p in report.points
        ]

    @property
    def caption(self) -> str:
        if len(self.dense_costs) > 1:
            return (
                f'No common cost: dense costs differ by more than {DENSE_TOLERANCE:.0%}.'
            )
        dense = self.dense_costs[0] / 1e6
        return f'Cost: share of {dense:.2f} MMACs, where nothing is skipped.'


def _common_metric(reports: Mapping, metric: str | None) -> str:
    first = next(iter(reports.values()))
    of_each = {name: report.scalar_metrics() for name, report in reports.items()}
    measured = [
        m for m in first.scalar_metrics() if all(m in o for o in of_each.values())
    ]
    if not measured:
        raise ValueError(f'no metric is in every report: {of_each}')
    chosen = metric or (first.metric if first.metric in measured else measured[0])
    if chosen not in measured:
        unknown = f'unknown metric {metric!r}'
        raise ValueError(f'{unknown}; measured in every report: {measured}')
    return chosen
