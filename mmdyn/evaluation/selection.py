"""Selection of an operating point from a report."""

import math
from operator import attrgetter, ge, le, methodcaller
from pathlib import Path

from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.report import OperatingPointReport


def select_operating_point(
    report: OperatingPointReport | str | Path,
    max_macs: float | None = None,
    max_latency_ms: float | None = None,
    min_metric: float | None = None,
    metric: str | None = None,
) -> PointResult:
    """Choose the best operating point within limits.

    Args:
        report (OperatingPointReport | str | Path): A report or its JSON file.
        max_macs (float | None): Most MACs per image, on average.
        max_latency_ms (float | None): Most milliseconds per image (median).
        min_metric (float | None): Least value of the metric; the cheapest point that
            reaches it is the best. ``None``: the one that scores highest, the cheaper of
            two equals.
        metric (str | None): Name of the metric; ``None``: the one the report ranks by.

    Raises:
        ValueError: For an unknown metric, or if no point is within the limits; the
            message names the limit and the nearest point.

    Example:
        >>> best = select_operating_point(
        ...     'work_dirs/demo/operating_points.json', max_macs=5e6)
        >>> set_operating_point(model, best.name)
    """
    if not isinstance(report, OperatingPointReport):
        report = OperatingPointReport.load(report)
    metric = metric or report.metric
    measured = report.scalar_metrics()
    if metric not in measured:
        raise ValueError(f'unknown metric {metric!r}; measured: {measured}')

    def latency(point):
        return point.latency_ms['median']

    macs, score = attrgetter('macs_per_image'), methodcaller('score', metric)
    candidates = [point for point in report.points if not math.isnan(score(point))]
    if not candidates:
        raise ValueError(f'no operating point has a value of {metric!r}')
    reasons = []
    # The message names the limits before, which have left fewer candidates.
    for name, limit, value, best, keeps in (
        ('max_macs', max_macs, macs, min, le),
        ('max_latency_ms', max_latency_ms, latency, min, le),
        (f'min_metric ({metric})', min_metric, score, max, ge),
    ):
        if limit is None:
            continue
        kept = [point for point in candidates if keeps(value(point), limit)]
        if not kept:
            nearest = best(candidates, key=value)
            among = f' among the points with {" and ".join(reasons)}' if reasons else ''
            raise ValueError(
                f'no operating point has {name} = {limit:g}: the nearest{among} is '
                f'{nearest.name!r} with {value(nearest):g}'
            )
        candidates = kept
        reasons.append(f'{name} = {limit:g}')
    if min_metric is not None:
        return min(candidates, key=lambda p: (macs(p), -score(p)))
    return max(candidates, key=lambda p: (score(p), -macs(p)))
