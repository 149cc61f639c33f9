"""The operating-point report: what each point costs and what it scores."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from mmdyn.visualization.curve import draw_curve, pareto_mask

__all__ = ['OperatingPointReport', 'PointResult']

STEM = 'operating_points'
"""Name of the written files, less their suffix."""


@dataclass(frozen=True)
class PointResult:
    """What was measured at one operating point.

    Args:
        name (str): Name of the point.
        metrics (Mapping[str, Any]): What the evaluator returned.
        macs_per_image (float): Mean executed multiply-accumulates an image.
        cost_ratio (float): Share of the MACs with nothing skipped.
        latency_ms (Mapping[str, float]): ``median`` and ``p90`` of the milliseconds an
            image takes.
    """

    name: str
    metrics: Mapping[str, Any]
    macs_per_image: float
    cost_ratio: float
    latency_ms: Mapping[str, float]


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
        points (list[PointResult]): The results.
    """

    config: str | None
    checkpoint: str | None
    device: str
    batch_size: int
    dense_point: str
    dense_macs_per_image: float
    metric: str | None = None
    points: list[PointResult] = field(default_factory=list)

    def __post_init__(self):
        names = self.scalar_metrics()
        self.metric = self.metric or next(iter(names), None)
        if self.metric is not None and self.metric not in names:
            raise ValueError(f'unknown metric {self.metric!r}; measured: {names}')

    def scalar_metrics(self) -> list[str]:
        """Names of the metrics that are one number."""
        if not self.points:
            return []
        return [k for k, v in self.points[0].metrics.items() if isinstance(v, Real)]

    def score(self, point: PointResult) -> float:
        """The value of :attr:`metric` at a point."""
        return point.metrics[self.metric]

    def pareto(self) -> list[bool]:
        """For each point, whether no other is cheaper and as good, or better and as
        cheap."""
        return pareto_mask(
            [p.macs_per_image for p in self.points], [self.score(p) for p in self.points]
        )

    @classmethod
    def load(cls, path: str | Path) -> OperatingPointReport:
        """Read a report from its JSON file."""
        content = json.loads(Path(path).read_text())
        points = [PointResult(**point) for point in content.pop('points')]
        return cls(**content, points=points)

    def print(self) -> None:
        """Print the table to stdout."""
        from rich.console import Console

        console = Console()
        # Without a terminal rich assumes 80 columns and would cut the names short.
        width = console.width if console.is_terminal else 200
        console.print(self._table(), width=width)

    def _table(self):
        from rich.table import Table

        metrics = self.scalar_metrics()
        caption = (
            f'{self.device}, batch size {self.batch_size}. Cost: share of the MACs at '
            f'{self.dense_point}, where nothing is skipped. Latency: median and 90th '
            f'percentile of the time an image takes.'
        )
        if metrics:
            caption += f' *: no point is both cheaper and better in {self.metric}.'
        table = Table(title='Operating points', caption=caption)
        table.add_column('point')
        for name in [*metrics, 'MMACs', 'cost', 'ms', 'p90 ms']:
            table.add_column(name, justify='right')
        table.add_column('*' if metrics else '')
        marks = self.pareto() if metrics else [False] * len(self.points)
        for point, marked in zip(self.points, marks):
            table.add_row(
                point.name,
                *(f'{point.metrics[name]:.2f}' for name in metrics),
                f'{point.macs_per_image / 1e6:.2f}',
                f'{point.cost_ratio:.3f}',
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
        text = json.dumps(_plain(asdict(self)), indent=2, allow_nan=False)
        files[0].write_text(text + '\n')
        self._write_csv(files[1])
        if self.metric is not None:
            files.append(path.with_suffix('.png'))
            self._draw(files[2])
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
                        *(point.metrics[name] for name in metrics),
                        point.macs_per_image,
                        point.cost_ratio,
                        point.latency_ms['median'],
                        point.latency_ms['p90'],
                    ]
                )

    def _draw(self, path: Path) -> None:
        dense = [p for p in self.points if p.name == self.dense_point]
        draw_curve(
            [p.name for p in self.points],
            [p.macs_per_image for p in self.points],
            [self.score(p) for p in self.points],
            path,
            metric=self.metric,
            dense_macs=self.dense_macs_per_image,
            dense_score=self.score(dense[0]) if dense else None,
        )


def _plain(value):
    """Turn metrics of any kind into what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, 'tolist'):  # tensors, arrays and NumPy scalars
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (str, int, float, type(None))):
        return value
    return str(value)
