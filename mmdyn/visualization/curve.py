"""Accuracy-cost curves of one run or of several."""

from collections.abc import Sequence
from pathlib import Path

from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.point_result import PointResult
from mmdyn.evaluation.report import OperatingPointReport, Report
from mmdyn.visualization.style import add_legend, finish, macs_unit, new_figure

MARKERS = 'osD^vP*X'
LIGHTEST = 0.85  # yellow, the end of the colours, is hard to see on white


def draw_report(report: Report, directory: str | Path) -> list[Path]:
    """Draw scores against cost, for the points that have a score.

    The Pareto points of each run are joined, its others hollow. Points of a single run
    carry their names; several runs are told apart by marker and by colours that rise in
    lightness, so also in grey.

    Args:
        report (Report): The report.
        directory (str | Path): An existing directory.

    Returns:
        list[Path]: The picture; empty if no point has a score.

    Raises:
        OSError: If the picture cannot be written.
    """
    points = report.scored_points()
    if not points:
        return []
    unit, scale = macs_unit(max(report.dense_costs))
    single = points[0].run is None
    figure = new_figure(6, 4) if single else new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    dense_label = 'dense model: cost and score' if single else 'nothing skipped'
    for number, macs in enumerate(sorted(set(report.dense_costs))):
        label = None if number else dense_label
        axes.axvline(macs / scale, color='0.5', lw=1, ls='--', zorder=1, label=label)
    if single:
        _draw_run(axes, report, points, scale)
    else:
        _draw_runs(axes, report, points, scale)
    axes.set_xlim(left=0)
    finish(axes, f'Executed {unit} per image', report.metric)
    add_legend(figure)
    path = Path(directory) / f'{report.stem}.png'
    figure.savefig(path)
    return [path]


def _draw_run(
    axes, report: OperatingPointReport, points: Sequence[PointResult], scale: float
) -> None:
    places = [(p.macs_per_image / scale, p.score(report.metric)) for p in points]
    best = pareto_mask(*zip(*places))
    _draw_curve(axes, places, best, 'o', 'black', 'Pareto points', 'other points')
    for point, place, on_front in zip(points, places, best):
        # Points on the front are labelled above it, others below: fewer collisions.
        axes.annotate(
            point.name,
            place,
            xytext=(-4, 6) if on_front else (4, -6),
            textcoords='offset points',
            ha='right' if on_front else 'left',
            va='bottom' if on_front else 'top',
            fontsize=8,
        )
        if point.name == report.dense_point:
            axes.axhline(place[1], color='0.5', lw=1, ls='--', zorder=1)
    axes.margins(x=0.18, y=0.15)


def _draw_runs(axes, report: Report, points: Sequence[PointResult], scale: float) -> None:
    from matplotlib import colormaps

    runs: dict[str, list] = {}
    for point in points:
        place = point.macs_per_image / scale, point.score(report.metric)
        runs.setdefault(point.run, []).append(place)
    for number, (run, places) in enumerate(runs.items()):
        color = colormaps['viridis'](LIGHTEST * number / max(len(runs) - 1, 1))
        marker = MARKERS[number % len(MARKERS)]
        _draw_curve(axes, places, pareto_mask(*zip(*places)), marker, color, run, None)
    axes.margins(y=0.1)


def _draw_curve(axes, places, best, marker, color, label, other_label) -> None:
    style = dict(color=color, ms=5)
    front = sorted(place for place, is_best in zip(places, best) if is_best)
    axes.plot(*zip(*front), f'{marker}-', label=label, zorder=3, **style)
    rest = [place for place, is_best in zip(places, best) if not is_best]
    if rest:
        axes.plot(*zip(*rest), marker, mfc='white', label=other_label, zorder=2, **style)
