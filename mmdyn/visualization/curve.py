"""Accuracy-cost curves of one model or of several."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.report import Report
from mmdyn.visualization.style import add_legend, finish, macs_unit, new_figure

Curve = Sequence[tuple[float, float]]

MARKERS = 'osD^vP*X'
LIGHTEST = 0.85  # yellow, the end of the colours, is hard to see on white


def draw_report(report: Report, directory: str | Path) -> list[Path]:
    """Draw the points of a report of one or several runs that have a score.

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
    path = Path(directory) / f'{report.stem}.png'
    pairs = [(point.macs_per_image, point.score(report.metric)) for point in points]
    if points[0].run is None:
        scores = {point.name: score for point, (_, score) in zip(points, pairs)}
        draw_curve(
            [point.name for point in points],
            pairs,
            path,
            metric=report.metric,
            dense_macs=report.dense_macs_per_image,
            dense_score=scores.get(report.dense_point),
        )
        return [path]
    curves: dict[str, Curve] = {}
    for point, pair in zip(points, pairs):
        curves.setdefault(point.run, []).append(pair)
    draw_comparison(curves, path, metric=report.metric, dense_macs=report.dense_costs)
    return [path]


def draw_curve(
    names: Sequence[str],
    curve: Curve,
    path: str | Path,
    *,
    metric: str,
    dense_macs: float,
    dense_score: float | None = None,
) -> None:
    """Draw scores against cost, with the Pareto points joined.

    Args:
        names (Sequence[str]): Name of each operating point.
        curve (Curve): (MACs per image, score) of each; more is better.
        path (str | Path): Where to write the picture; the suffix tells the format.
        metric (str): Name of the score.
        dense_macs (float): MACs per image with nothing skipped.
        dense_score (float | None): Score with nothing skipped, if it was measured.
    """
    unit, scale = macs_unit(dense_macs)
    figure = new_figure(6, 4)
    axes = figure.add_subplot()
    lines = dict(color='0.5', lw=1, ls='--', zorder=1)
    axes.axvline(dense_macs / scale, label='dense model: cost and score', **lines)
    if dense_score is not None:
        axes.axhline(dense_score, **lines)
    front, rest = _divided(curve, scale)
    axes.plot(*zip(*front), 'o-', color='black', label='Pareto points', zorder=3)
    if rest:
        axes.plot(*zip(*rest), 'o', color='black', mfc='white', label='other points')
    for name, (macs, score) in zip(names, curve):
        place = macs / scale, score
        # Points on the front are labelled above it, others below: fewer collisions.
        on_front = place in front
        axes.annotate(
            name,
            place,
            xytext=(-4, 6) if on_front else (4, -6),
            textcoords='offset points',
            ha='right' if on_front else 'left',
            va='bottom' if on_front else 'top',
            fontsize=8,
        )
    axes.margins(x=0.18, y=0.15)
    axes.set_xlim(left=0)
    finish(axes, f'Executed {unit} per image', metric)
    add_legend(figure)
    figure.savefig(path)


def draw_comparison(
    curves: Mapping[str, Curve],
    path: str | Path,
    *,
    metric: str,
    dense_macs: Sequence[float],
) -> None:
    """Draw one series for each model, its own Pareto points joined, its others hollow.

    Colours rise in lightness, and markers differ, so series can be told apart in grey.
    Points carry no names.

    Args:
        curves (Mapping[str, Curve]): (MACs per image, score) of a model's points, one or
            more, by its name; more is better.
        path (str | Path): Where to write the picture; the suffix tells the format.
        metric (str): Name of the score.
        dense_macs (Sequence[float]): MACs per image with nothing skipped: those of the
            models, or one that they have in common.
    """
    from matplotlib import colormaps

    unit, scale = macs_unit(max(dense_macs))
    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    for number, macs in enumerate(sorted(set(dense_macs))):
        label = None if number else 'nothing skipped'
        axes.axvline(macs / scale, color='0.5', lw=1, ls='--', zorder=1, label=label)
    for number, (name, curve) in enumerate(curves.items()):
        front, rest = _divided(curve, scale)
        color = colormaps['viridis'](LIGHTEST * number / max(len(curves) - 1, 1))
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(*zip(*front), f'{marker}-', color=color, ms=5, label=name, zorder=3)
        if rest:
            axes.plot(*zip(*rest), marker, color=color, ms=5, mfc='white', zorder=2)
    axes.margins(y=0.1)
    axes.set_xlim(left=0)
    finish(axes, f'Executed {unit} per image', metric)
    add_legend(figure)
    figure.savefig(path)


def _divided(curve: Curve, scale: float) -> tuple[Curve, Curve]:
    """The Pareto points of a curve, from the cheapest on, and the others; MACs scaled."""
    best = pareto_mask(*zip(*curve))
    scaled = [(macs / scale, score) for macs, score in curve]
    front = sorted(point for point, is_best in zip(scaled, best) if is_best)
    return front, [point for point, is_best in zip(scaled, best) if not is_best]
