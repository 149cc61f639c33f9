"""The operating-point report: what each point costs and what it scores."""

import csv
import json
import math
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path

from mmdyn.evaluation.point_result import PointResult, to_python
from mmdyn.visualization.curve import draw_curve, pareto_mask

STEM = 'operating_points'
"""Name of the written files, less their suffix."""


@dataclass
class OperatingPointReport:
    """Results of all operating points of one model on one dataset.

    Args:
        config (str | None): Config file of the model.
        checkpoint (str | None): Its weights.
        device (str): What it ran on.
        batch_size (int): Images in a batch while time was taken.
        dense_point (str): Name of the point at which nothing is skipped.
        dense_macs_per_image (float): MACs an image at that point.
        metric (str | None): The metric to draw and to rank by; more is better. ``None``:
            the first one.
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

    def __post_init__(self):
        names = self.scalar_metrics()
        self.metric = self.metric or next(iter(names), None)
        if self.metric is not None and self.metric not in names:
            raise ValueError(f'unknown metric {self.metric!r}; measured: {names}')

    def scalar_metrics(self) -> list[str]:
        """Names of the metrics that are one number, at whichever points they exist."""
        names = [
            name
            for point in self.points
            for name, value in point.metrics.items()
            if isinstance(value, Real)
        ]
        return list(dict.fromkeys(names))

    def pareto(self) -> list[bool]:
        """For each point, whether no other is cheaper and as good, or better and as
        cheap."""
        costs = [point.macs_per_image for point in self.points]
        return pareto_mask(costs, [point.score(self.metric) for point in self.points])

    @classmethod
    def load(cls, path: str | Path) -> 'OperatingPointReport':
        """Read a report from its JSON file."""
        content = json.loads(Path(path).read_text())
        points = [
            PointResult(**{**point, 'cost_ratio': to_python(point['cost_ratio'])})
            for point in content.pop('points')
        ]
        return cls(**content, points=points)

    def print(self) -> None:
        """Print the table to stdout."""
        console_for_tables().print(self._table())

    def _table(self):
        from rich.table import Table

        metrics = self.scalar_metrics()
        caption = (
            f'{self.device}, batch size {self.batch_size}. Cost: share of the MACs at '
            f'{self.dense_point}, where nothing is skipped. ms: time an image takes, '
            f'median and 90th percentile over batches.'
        )
        if metrics:
            caption += f' *: no point is both cheaper and better in {self.metric}.'
        if self.untrained_points:
            caption += (
                f' Not trained, of use for their cost alone: '
                f'{", ".join(self.untrained_points)}.'
            )
        table = Table(title='Operating points', caption=caption)
        table.add_column('point')
        for name in [*metrics, 'MMACs', 'cost', 'ms', 'p90 ms']:
            table.add_column(name, justify='right')
        table.add_column('*' if metrics else '')
        marks = self.pareto() if metrics else [False] * len(self.points)
        for point, marked in zip(self.points, marks):
            table.add_row(
                point.name,
                *(cell(point.score(name), 2) for name in metrics),
                f'{point.macs_per_image / 1e6:.2f}',
                cell(point.cost_ratio, 3),
                f'{point.latency_ms["median"]:.3f}',
                f'{point.latency_ms["p90"]:.3f}',
                '*' if marked else '',
            )
        return table

    def write(self, directory: str | Path) -> list[Path]:
        """Write ``operating_points.json``, ``.csv`` and, if there is a score, ``.png``.

        Args:
            directory (str | Path): An existing directory.

        Returns:
            list[Path]: The files written.

        Raises:
            OSError: If a file cannot be written.
        """
        path = Path(directory) / STEM
        files = [path.with_suffix('.json'), path.with_suffix('.csv')]
        text = json.dumps(_json(asdict(self)), indent=2, allow_nan=False)
        files[0].write_text(text + '\n')
        self._write_csv(files[1])
        scored = [p for p in self.points if not math.isnan(p.score(self.metric))]
        if scored:
            files.append(path.with_suffix('.png'))
            self._draw(files[2], scored)
        return files

    def _write_csv(self, path: Path) -> None:
        metrics = self.scalar_metrics()
        header = ['name', *metrics, 'macs_per_image', 'cost_ratio']
        with path.open('w', newline='') as file:
            writer = csv.writer(file)
            writer.writerow([*header, 'latency_ms_median', 'latency_ms_p90'])
            for point in self.points:
                writer.writerow(
                    [
                        point.name,
                        *(point.score(name) for name in metrics),
                        point.macs_per_image,
                        point.cost_ratio,
                        point.latency_ms['median'],
                        point.latency_ms['p90'],
                    ]
                )

    def _draw(self, path: Path, points: list[PointResult]) -> None:
        dense = [p for p in points if p.name == self.dense_point]
        draw_curve(
            [p.name for p in points],
            [p.macs_per_image for p in points],
            [p.score(self.metric) for p in points],
            path,
            metric=self.metric,
            dense_macs=self.dense_macs_per_image,
            dense_score=dense[0].score(self.metric) if dense else None,
        )


def console_for_tables():
    """A console that keeps long names whole where the output is not a terminal."""
    from rich.console import Console

    console = Console()
    # For a pipe or a file rich assumes 80 columns.
    return console if console.is_terminal else Console(width=200)


def cell(value: float, digits: int) -> str:
    """A number in a table; a dash for what is not one."""
    return '–' if math.isnan(value) else f'{value:.{digits}f}'


def _json(value):
    """Put null for what JSON has no number for."""
    if isinstance(value, dict):
        return {k: _json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
