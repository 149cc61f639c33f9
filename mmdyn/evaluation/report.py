"""Reports of operating points: what each costs and scores, in one or several runs."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from pathlib import Path

from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.point_result import PointResult, current_name
from mmdyn.evaluation.tables import Column, number_column, print_table, write_table
from mmdyn.evaluation.tables import console_for_tables as console_for_tables


class Report:
    """Operating points with one metric to rank by; a base class.

    Attributes:
        points (list[PointResult]): The points.
        metric (str | None): The metric to draw and to rank by; more is better. ``None``:
            nothing was measured.
        stem (str): Name of the written files, without their suffix.
    """

    points: list[PointResult]
    metric: str | None
    stem: str
    title: str

    def scalar_metrics(self) -> list[str]:
        """Names of the metrics that are one number at one point or more."""
        names = [
            name
            for point in self.points
            for name, value in point.metrics.items()
            if isinstance(value, Real)
        ]
        return list(dict.fromkeys(names))

    def scored_points(self) -> list[PointResult]:
        """The points that have a value of the metric."""
        return [p for p in self.points if not math.isnan(p.score(self.metric))]

    def pareto(self) -> list[bool]:
        """For each point, whether no other is cheaper and as good, or better and as
        cheap."""
        costs = [point.macs_per_image for point in self.points]
        return pareto_mask(costs, [point.score(self.metric) for point in self.points])

    def print(self) -> None:
        """Print the table to stdout."""
        print_table(self._columns(), self.title, self._caption())

    def write(self, directory: str | Path) -> list[Path]:
        """Write the table as a CSV file.

        Args:
            directory (str | Path): An existing directory.

        Returns:
            list[Path]: The files written.

        Raises:
            OSError: If a file cannot be written.
        """
        return [write_table(self._columns(), Path(directory) / f'{self.stem}.csv')]

    def _caption(self) -> str:
        raise NotImplementedError

    def _columns(self) -> list[Column]:
        raise NotImplementedError

    def _score_and_cost_columns(self) -> list[Column]:
        macs = [point.macs_per_image for point in self.points]
        ratios = [point.cost_ratio for point in self.points]
        return [
            *(
                number_column(name, name, [point.score(name) for point in self.points], 2)
                for name in self.scalar_metrics()
            ),
            number_column('MMACs', 'macs_per_image', macs, 2, unit=1e6),
            number_column('cost', 'cost_ratio', ratios, 3),
        ]

    def _pareto_column(self) -> Column:
        marks = [int(mark) for mark in self.pareto()]
        title = '' if self.metric is None else '*'
        return Column(title, 'pareto', marks, lambda mark: '*' if mark else '')


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
        metric (str | None): The metric to draw and to rank by; more is better. ``None``:
            the first one.
        untrained_points (list[str]): Names of the points that training does not reach.
        points (list[PointResult]): The results.

    Raises:
        ValueError: If the metric was not measured.
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
            replace(
                point,
                metrics=_to_python(point.metrics),
                cost_ratio=_to_python(point.cost_ratio),
            )
            for point in self.points
        ]
        names = self.scalar_metrics()
        self.metric = self.metric or next(iter(names), None)
        if self.metric is not None and self.metric not in names:
            raise ValueError(f'unknown metric {self.metric!r}; measured: {names}')

    @classmethod
    def load(cls, path: str | Path) -> 'OperatingPointReport':
        """Read a report from its JSON file or from the directory that holds it.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is something else.
        """
        file = Path(path)
        if file.is_dir():
            file = file / f'{cls.stem}.json'
        if not file.is_file():
            raise FileNotFoundError(
                f'{file} does not exist: a report is an {cls.stem}.json that '
                f'tools/test.py writes, or the directory with one'
            )
        try:
            return cls._from_json(json.loads(file.read_text()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f'{file} is not a report of tools/test.py ({type(error).__name__}: '
                f'{error})'
            ) from error

    @classmethod
    def _from_json(cls, content: dict) -> 'OperatingPointReport':
        untrained = map(current_name, content.pop('untrained_points', []))
        points = [
            PointResult(**{**point, 'name': current_name(point['name'])})
            for point in content.pop('points')
        ]
        dense = current_name(content.pop('dense_point'))
        return cls(
            **content, dense_point=dense, untrained_points=[*untrained], points=points
        )

    def write(self, directory: str | Path) -> list[Path]:
        """As in :class:`Report`, after a JSON file that :meth:`load` reads."""
        content = asdict(replace(self, points=[]))
        content['points'] = [
            dict(
                name=point.name,
                metrics=point.metrics,
                macs_per_image=point.macs_per_image,
                cost_ratio=point.cost_ratio,
                latency_ms=point.latency_ms,
            )
            for point in self.points
        ]
        path = Path(directory) / f'{self.stem}.json'
        path.write_text(json.dumps(_to_json(content), indent=2, allow_nan=False) + '\n')
        return [path, *super().write(directory)]

    def _caption(self) -> str:
        caption = (
            f'{self.device}, batch size {self.batch_size}. Cost: share of the MACs at '
            f'{self.dense_point}, where nothing is skipped. ms: time per image, median '
            f'and 90th percentile over batches.'
        )
        if self.metric is not None:
            caption += f' *: no point is both cheaper and better in {self.metric}.'
        if self.untrained_points:
            names = ', '.join(self.untrained_points)
            caption += f' Not trained, reported for their cost alone: {names}.'
        return caption

    def _columns(self) -> list[Column]:
        times = [point.latency_ms for point in self.points]
        medians, p90s = (
            [each.get(name, math.nan) for each in times] for name in ('median', 'p90')
        )
        return [
            Column('point', 'name', [point.name for point in self.points]),
            *self._score_and_cost_columns(),
            number_column('ms', 'latency_ms_median', medians, 3),
            number_column('p90 ms', 'latency_ms_p90', p90s, 3),
            self._pareto_column(),
        ]


def _to_python(value):
    """Turn what evaluators return into Python's own numbers, lists and strings."""
    if value is None:  # how JSON files hold NaN
        return math.nan
    if isinstance(value, Mapping):
        return {str(k): _to_python(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_python(v) for v in value]
    if hasattr(value, 'tolist'):  # tensors, arrays and NumPy scalars
        return _to_python(value.tolist())
    return value if isinstance(value, (str, int, float)) else str(value)


def _to_json(value):
    """Put null for the numbers that JSON lacks."""
    if isinstance(value, Mapping):
        return {k: _to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
