"""Accuracy-cost curves of one run or of several."""

from collections.abc import Sequence
from pathlib import Path

from mmdyn.evaluation.pareto import pareto_mask
from mmdyn.evaluation.report import Report
from mmdyn.visualization.style import add_legend, finish, macs_unit, new_figure

MARKERS = 'osD^vP*X'
LIGHTEST = 0.85  # yellow, the end of the colours, is hard to see on white
DENSE = dict(color='0.5', lw=1, ls='--', zorder=1)


def draw_report(report: Report, directory: str | Path) -> list[Path]:
    """Draw scores against cost; returns the picture, or nothing if no point has a score.

    The Pareto points of each run are joined, its others hollow. Points of a single run
    carry their names; several runs are told apart by marker and by colours that rise in
    lightness, so also in grey.
    """
    points = report.scored_points()
    if not points:
        return []
    unit, scale = macs_unit(max(report.dense_costs))
    single = points[0].run is None
    figure = new_figure(6, 4) if single else new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    label = 'dense model: cost and score' if single else 'nothing skipped'
    for macs in sorted(set(report.dense_costs)):
        axes.axvline(macs / scale, label=label, **DENSE)
        label = None
    places = [(p.macs_per_image / scale, p.score(report.metric)) for p in points]
    if single:
        _draw_run(axes, places, [p.name for p in points], report.dense_point)
    else:
        _draw_runs(axes, places, [p.run for p in points])
    axes.set_xlim(left=0)
    finish(axes, f'Executed {unit} per image', report.metric)
    add_legend(figure)
    path = Path(directory) / f'{report.stem}.png'
    figure.savefig(path)
    return [path]


def _draw_run(axes, places: Sequence, names: Sequence[str], dense_point: str) -> None:
    best = _draw_curve(axes, places, 'o', 'black', 'Pareto points', 'other points')
    # Points on the front are labelled above it, others below: fewer collisions.
    above = dict(xytext=(-4, 6), ha='right', va='bottom')
    below = dict(xytext=(4, -6), ha='left', va='top')
    for name, place, on_front in zip(names, places, best):
        side = above if on_front else below
        axes.annotate(name, place, textcoords='offset points', fontsize=8, **side)
        if name == dense_point:
            axes.axhline(place[1], **DENSE)
    axes.margins(x=0.18, y=0.15)


def _draw_runs(axes, places: Sequence, runs: Sequence[str]) -> None:
    from matplotlib import colormaps

    names = list(dict.fromkeys(runs))
    for number, name in enumerate(names):
        color = colormaps['viridis'](LIGHTEST * number / max(len(names) - 1, 1))
        own = [place for place, run in zip(places, runs) if run == name]
        _draw_curve(axes, own, MARKERS[number % len(MARKERS)], color, name)
    axes.margins(y=0.1)


def _draw_curve(axes, places, marker, color, label, other_label=None) -> list[bool]:
    """Draw the points of a run; returns which are Pareto points."""
    best = pareto_mask(*zip(*places))
    style = dict(color=color, ms=5)
    front = sorted(place for place, is_best in zip(places, best) if is_best)
    axes.plot(*zip(*front), f'{marker}-', label=label, zorder=3, **style)
    rest = [place for place, is_best in zip(places, best) if not is_best]
    if rest:
        axes.plot(*zip(*rest), marker, mfc='white', label=other_label, zorder=2, **style)
    return best
