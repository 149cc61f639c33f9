"""What pruning and early exits of one model score against what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Curve = Sequence[tuple[float, float]]


def draw_frontier(
    pruned: Mapping[str, Curve],
    exits: Curve,
    envelopes: Mapping[str, Curve],
    chosen: Curve,
    path: str | Path,
    metric: str,
) -> None:
    """Draw pruning curves, the early exits alone and the upper envelope.

    All curves are sequences of (MACs an image, score).

    Args:
        pruned (Mapping[str, Curve]): What each exit scores as functions go, by its name.
        exits (Curve): The exits with all their functions.
        envelopes (Mapping[str, Curve]): The best score within each budget, by what the
            functions were ranked by.
        chosen (Curve): The points to offer.
        path (str | Path): Where to write the picture; the suffix tells the format.
        metric (str): Name of the score.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit, scale = ('GMACs', 1e9) if exits[-1][0] >= 1e9 else ('MMACs', 1e6)

    def xy(curve):
        return [x / scale for x, _ in curve], [y for _, y in curve]

    figure = Figure(figsize=(6.4, 4.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for shade, (name, curve) in zip(_shades(len(pruned)), pruned.items()):
        axes.plot(*xy(curve), '.', ms=4, color=shade, label=f'{name}, pruned')
    axes.step(
        *xy(exits), 's--', where='post', color='0.3', mfc='white', label='exits alone'
    )
    for style, (name, curve) in zip(('-', ':'), envelopes.items()):
        axes.step(
            *xy(curve), style, where='post', color='black', lw=1.4, label=f'best, {name}'
        )
    axes.plot(*xy(chosen), 'o', color='black', label='points to offer', zorder=4)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=_lower_limit([y for _, y in [*chosen, *exits]]))
    axes.set_xlabel(f'Executed {unit} an image')
    axes.set_ylabel(metric)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc='outside upper center', ncols=3)
    figure.savefig(path, dpi=200)


def _shades(number: int) -> list[str]:
    return [f'{0.8 - 0.4 * i / max(number - 1, 1):.2f}' for i in range(number)]


def _lower_limit(scores: Sequence[float]) -> float:
    """A little below what is offered: a network pruned to a wreck would flatten it."""
    return min(scores) - 0.1 * (max(scores) - min(scores)) - 1e-3
