"""Reports of operating points: what each costs and scores, in one or several runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from pathlib import Path

from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.point_result import PointResult, current_name
from mmdyn.evaluation.tables import Column, number_column, print_table, write_table


class Report:
    """Operating points of one or several runs; a base class.

    Subclasses set ``points``; ``metric``, to draw and to rank by, more being better, or
    ``None`` if nothing was measured; ``dense_costs``, the MACs per image with nothing
    skipped, of each run or one in common; the table's ``title`` and ``caption``; and the
    ``stem`` of the names of files.
    """

    def scalar_metrics(self) -> list[str]:
        """Names of the metrics that are one number at one point or more."""
        values = [item for point in self.points for item in point.metrics.items()]
        return list(dict.fromkeys(name for name, v in values if isinstance(v, Real)))

    def scored_points(self) -> list[PointResult]:
        """The points that have a value of the metric."""
        return [p for p in self.points if not math.isnan(p.score(self.metric))]

    def pareto(self) -> list[bool]:
        """Whether no other point is cheaper in MACs and better in the metric."""
        costs = [point.macs_per_image for point in self.points]
        return pareto_mask(costs, [point.score(self.metric) for point in self.points])

    def print(self) -> None:
        """Print the table to stdout."""
        caption = self.caption
        if self.metric is not None:
            caption += f' *: no point is both cheaper and better in {self.metric}.'
        print_table(self._columns(), self.title, caption)

    def write(self, directory: str | Path) -> list[Path]:
        """Write the table as a CSV file in an existing directory; returns the files."""
        return [write_table(self._columns(), Path(directory) / f'{self.stem}.csv')]

    def _columns(self) -> list[Column]:
        points, names = self.points, [point.name for point in self.points]
        columns = [Column('point', 'name', names)]
        if any(point.run for point in points):
            runs = [point.run for point in points]
            columns = [Column('report', 'report', runs), Column('point', 'point', names)]
        columns += [
            number_column(name, name, [point.score(name) for point in points], 2)
            for name in self.scalar_metrics()
        ]
        macs = [point.macs_per_image for point in points]
        ratios = [point.cost_ratio for point in points]
        columns.append(number_column('MMACs', 'macs_per_image', macs, 2, unit=1e6))
        columns.append(number_column('cost', 'cost_ratio', ratios, 3))
        if any(point.latency_ms for point in points):
            for title, name in (('ms', 'median'), ('p90 ms', 'p90')):
                times = [point.latency_ms.get(name, math.nan) for point in points]
                columns.append(number_column(title, f'latency_ms_{name}', times, 3))
        marks = [int(mark) for mark in self.pareto()]
        title = '' if self.metric is None else '*'
        return [*columns, Column(title, 'pareto', marks, lambda mark: '*' * mark)]


@dataclass
class OperatingPointReport(Report):
    """Results of all operating points of one model on one dataset.

    Args:
        config (str | None): Config file of the model.
        checkpoint (str | None): Its weights.
        device (str): What it ran on.
        batch_size (int): Images in a batch while time was taken.
        dense_point (str): Name of the point at which nothing is skipped.
        dense_macs_per_image (float): MACs per image at that point.
        metric (str | None): A measured metric to draw and to rank by, more being better;
            ``None``: the first one.
        untrained_points (list[str]): Names of the points that training does not reach.
        points (list[PointResult]): The results.
    """

    config: str | None
    checkpoint: str | None
    device: str
    batch_size: int
    dense_point: str
    dense_macs_per_image: float
    metric: str | None = None
    untrained_points: list[str] = field(default_factory=list)
    points: list[PointResult] = field(default_factory=list)

    stem = 'operating_points'
    title = 'Operating points'

    def __post_init__(self):
        self.points = [
            replace(p, metrics=_plain(p.metrics), cost_ratio=_plain(p.cost_ratio))
            for p in self.points
        ]
        names = self.scalar_metrics()
        self.metric = self.metric or next(iter(names), None)
        if self.metric is not None and self.metric not in names:
            raise ValueError(f'unknown metric {self.metric!r}; measured: {names}')

    @property
    def dense_costs(self) -> list[float]:
        return [self.dense_macs_per_image]

    @classmethod
    def load(cls, path: str | Path) -> 'OperatingPointReport':
        """Read a report from its JSON file or the directory that holds it.

        Raises ``FileNotFoundError`` if there is none, ``ValueError`` for another file.
        """
        file = Path(path)
        if file.is_dir():
            file = file / f'{cls.stem}.json'
        if not file.is_file():
            raise FileNotFoundError(
                f'{file} does not exist: a report is an {cls.stem}.json or its directory'
            )
        try:
            content = json.loads(file.read_text())
            today = partial(current_name, dense=content['dense_point'])
            points = [PointResult(**point) for point in content['points']]
            content['points'] = [replace(p, name=today(p.name)) for p in points]
            untrained = content.get('untrained_points', [])
            content['untrained_points'] = [today(name) for name in untrained]
            content['dense_point'] = today(content['dense_point'])
            return cls(**content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            found = f'{type(error).__name__}: {error}'
            raise ValueError(
                f'{file} is not a report of tools/test.py ({found})'
            ) from error

    def write(self, directory: str | Path) -> list[Path]:
        """As in :class:`Report`, after a JSON file that :meth:`load` reads."""
        names = 'name', 'metrics', 'macs_per_image', 'cost_ratio', 'latency_ms'
        points = [{name: getattr(p, name) for name in names} for p in self.points]
        text = json.dumps({**vars(self), 'points': points})
        # JSON has neither NaN nor infinity: they become null.
        content = json.loads(text, parse_constant=lambda name: None)
        path = Path(directory) / f'{self.stem}.json'
        path.write_text(json.dumps(content, indent=2) + '\n')
        return [path, *super().write(directory)]

    @property
    def caption(self) -> str:
        caption = (
            f'{self.device}, batch size {self.batch_size}. Cost: share of the MACs at '
            f'{self.dense_point}, where nothing is skipped. ms: time per image, median '
            f'and 90th percentile over batches.'
        )
        if self.untrained_points:
            names = ', '.join(self.untrained_points)
            caption += f' Not trained, reported for their cost alone: {names}.'
        return caption


def _plain(value):
    """Mappings, lists, tensors and arrays as JSON has them; null stands for NaN."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, 'tolist'):  # tensors, arrays and NumPy scalars
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None:
        return math.nan
    return value if isinstance(value, (str, int, float)) else str(value)
