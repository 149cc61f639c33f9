"""The operating points of several reports side by side."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from mmdyn.evaluation.report import (
    STEM,
    OperatingPointReport,
    PointResult,
    cell,
    console_for_tables,
)
from mmdyn.visualization.comparison import draw_comparison
from mmdyn.visualization.curve import pareto_mask

DENSE_TOLERANCE = 0.01
"""Dense costs that differ by no more than this share are taken for one: networks with
other exits on one backbone."""


def load_report(path: str | Path) -> OperatingPointReport:
    """Read a report from its file or from the directory that holds it.

    Args:
        path (str | Path): An ``operating_points.json``, or a directory with one.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is something else.
    """
    file = Path(path)
    if file.is_dir():
        file = file / f'{STEM}.json'
    if not file.is_file():
        raise FileNotFoundError(
            f'{file} does not exist: a report is an {STEM}.json that tools/test.py '
            f'writes, or the directory with one'
        )
    try:
        return OperatingPointReport.load(file)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{file} is not a report of tools/test.py ({type(error).__name__}: {error})'
        ) from error


@dataclass(frozen=True)
class ComparedPoint:
    """A point among those of all reports.

    Args:
        report (str): Name of the report it is from.
        result (PointResult): What was measured.
        pareto (bool): Whether no point of any report is cheaper and as good, or better
            and as cheap.
    """

    report: str
    result: PointResult
    pareto: bool

    def score(self, metric: str) -> float:
        """The value of a metric; not a number where it is none, or was not measured."""
        value = self.result.score(metric)
        return value if isinstance(value, Real) else math.nan


class ReportComparison:
    """Several models' operating points, of one dataset, on common axes.

    Costs are MACs as each report has them. That the reports are of one dataset is not
    checked.

    Args:
        reports (Mapping[str, OperatingPointReport]): The reports by their names, one or
            more.
        metric (str | None): The metric to draw and to rank by, measured in every report;
            more is better. ``None``: the one the first report ranks by, or else the first
            that all have.

    Attributes:
        metric (str): Its name.
        dense_macs (float | None): MACs an image with nothing skipped, the most of any
            report. ``None``: they differ by more than 1 %, so cost is not a share of one
            thing.
        points (list[ComparedPoint]): All points, report by report.

    Raises:
        ValueError: If not every report has the metric, or no metric is in all of them.
    """

    def __init__(
        self, reports: Mapping[str, OperatingPointReport], metric: str | None = None
    ):
        self.reports = dict(reports)
        self.metric = self._common_metric(metric)
        dense = self._dense_macs()
        agree = max(dense) - min(dense) <= DENSE_TOLERANCE * max(dense)
        self.dense_macs = max(dense) if agree else None
        pairs = [(name, p) for name, report in reports.items() for p in report.points]
        marks = pareto_mask(
            [point.macs_per_image for _, point in pairs],
            [point.score(self.metric) for _, point in pairs],
        )
        self.points = [ComparedPoint(*pair, mark) for pair, mark in zip(pairs, marks)]

    def _common_metric(self, metric: str | None) -> str:
        first, *others = self.reports.values()
        measured = [
            name
            for name in first.scalar_metrics()
            if all(name in report.scalar_metrics() for report in others)
        ]
        if not measured:
            of_each = {name: r.scalar_metrics() for name, r in self.reports.items()}
            raise ValueError(f'no metric is in every report: {of_each}')
        if metric is None:
            return first.metric if first.metric in measured else measured[0]
        if metric not in measured:
            raise ValueError(
                f'unknown metric {metric!r}; measured in every report: {measured}'
            )
        return metric

    def _dense_macs(self) -> list[float]:
        return [report.dense_macs_per_image for report in self.reports.values()]

    def scalar_metrics(self) -> list[str]:
        """Names of the metrics that are one number, in whichever reports they exist."""
        names = [n for report in self.reports.values() for n in report.scalar_metrics()]
        return list(dict.fromkeys(names))

    def cost_ratio(self, point: ComparedPoint) -> float:
        """Share of the common dense cost; not a number where there is none."""
        return point.result.macs_per_image / (self.dense_macs or math.nan)

    def print(self) -> None:
        """Print the table to stdout."""
        console_for_tables().print(self._table())

    def _table(self):
        from rich.markup import escape
        from rich.table import Table

        metrics = self.scalar_metrics()
        table = Table(title='Operating points of several reports', caption=self._legend())
        table.add_column('report', overflow='fold')
        table.add_column('point', overflow='fold')
        for name in [*metrics, 'MMACs', 'cost']:
            table.add_column(name, justify='right')
        table.add_column('*')
        for point in self.points:
            table.add_row(
                escape(point.report),
                escape(point.result.name),
                *(cell(point.score(name), 2) for name in metrics),
                f'{point.result.macs_per_image / 1e6:.2f}',
                cell(self.cost_ratio(point), 3),
                '*' if point.pareto else '',
            )
        return table

    def _legend(self) -> str:
        if self.dense_macs is None:
            cost = (
                f'No common cost: with nothing skipped the reports differ by more than '
                f'{DENSE_TOLERANCE:.0%}.'
            )
        else:
            dense = self.dense_macs / 1e6
            cost = f'Cost: share of {dense:.2f} MMACs, where nothing is skipped.'
        return f'{cost} *: no point is both cheaper and better in {self.metric}.'

    def write(self, directory: str | Path) -> list[Path]:
        """Write ``comparison.csv`` and, if there is a score, ``comparison.png``.

        Args:
            directory (str | Path): An existing directory.

        Returns:
            list[Path]: The files written.

        Raises:
            OSError: If a file cannot be written.
        """
        files = [Path(directory) / 'comparison.csv']
        self._write_csv(files[0])
        if curves := self._curves():
            files.append(Path(directory) / 'comparison.png')
            dense = self._dense_macs() if self.dense_macs is None else [self.dense_macs]
            draw_comparison(curves, files[1], metric=self.metric, dense_macs=dense)
        return files

    def _write_csv(self, path: Path) -> None:
        metrics = self.scalar_metrics()
        with path.open('w', newline='') as file:
            writer = csv.writer(file)
            costs = ['macs_per_image', 'cost_ratio', 'pareto']
            writer.writerow(['report', 'point', *metrics, *costs])
            for point in self.points:
                writer.writerow(
                    [
                        point.report,
                        point.result.name,
                        *(point.score(name) for name in metrics),
                        point.result.macs_per_image,
                        self.cost_ratio(point),
                        int(point.pareto),
                    ]
                )

    def _curves(self) -> dict[str, list[tuple[float, float]]]:
        """MACs an image and score of the points that have a score, by report."""
        curves = {}
        for point in self.points:
            score = point.score(self.metric)
            if not math.isnan(score):
                pair = point.result.macs_per_image, score
                curves.setdefault(point.report, []).append(pair)
        return curves
