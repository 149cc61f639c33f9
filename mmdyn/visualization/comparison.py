"""The accuracy–cost curves of several models."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdyn.visualization.curve import pareto_mask

Curve = Sequence[tuple[float, float]]

MARKERS = 'osD^vP*X'
LIGHTEST = 0.85  # yellow, the end of the colours, is hard to see on white


def draw_comparison(
    curves: Mapping[str, Curve],
    path: str | Path,
    *,
    metric: str,
    dense_macs: Sequence[float],
) -> None:
    """Draw one series a model, its own Pareto points joined, its others hollow.

    Colours rise in lightness, and markers differ, so series can be told apart in grey.
    Points carry no names.

    Args:
        curves (Mapping[str, Curve]): (MACs an image, score) of a model's points, one or
            more, by its name; more is better.
        path (str | Path): Where to write the picture; the suffix tells the format.
        metric (str): Name of the score.
        dense_macs (Sequence[float]): MACs an image with nothing skipped: those of the
            models, or one that they have in common.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit, scale = ('GMACs', 1e9) if max(dense_macs) >= 1e9 else ('MMACs', 1e6)
    figure = Figure(figsize=(6.4, 4.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, macs in enumerate(sorted(set(dense_macs))):
        label = None if number else 'nothing skipped'
        axes.axvline(macs / scale, color='0.5', lw=1, ls='--', zorder=1, label=label)
    for number, (name, curve) in enumerate(curves.items()):
        front, rest = _divided([(x / scale, y) for x, y in curve])
        color = colormaps['viridis'](LIGHTEST * number / max(len(curves) - 1, 1))
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(*zip(*front), f'{marker}-', color=color, ms=5, label=name, zorder=3)
        if rest:
            axes.plot(*zip(*rest), marker, color=color, ms=5, mfc='white', zorder=2)
    axes.margins(y=0.1)
    axes.set_xlim(left=0)
    axes.set_xlabel(f'Executed {unit} an image')
    axes.set_ylabel(metric)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc='outside upper center', ncols=3)
    figure.savefig(path, dpi=200)


def _divided(curve: Curve) -> tuple[Curve, Curve]:
    """The points that no other point of the curve beats, from the cheapest; the rest."""
    best = pareto_mask(*zip(*curve))
    front = sorted(point for point, is_best in zip(curve, best) if is_best)
    return front, [point for point, is_best in zip(curve, best) if not is_best]
