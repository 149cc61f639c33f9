"""Figure of scores against cost for the pruned networks and exits of one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdyn.visualization.style import add_legend, finish, macs_unit, new_figure, shades

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

    Args:
        pruned (Mapping[str, Curve]): (MACs per image, score) of the pruned networks of
            each exit.
        exits (Curve): The exits with all their functions.
        envelopes (Mapping[str, Curve]): The best score within each budget, by ranking.
        chosen (Curve): The points to offer.
        path (str | Path): The file; its suffix gives the format.
        metric (str): Name of the score.
    """
    unit, scale = macs_unit(exits[-1][0])

    def xy(curve):
        return [x / scale for x, _ in curve], [y for _, y in curve]

    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    greys = shades(len(pruned), first=0.8, last=0.4)
    for shade, (name, curve) in zip(greys, pruned.items()):
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
    # Networks that are pruned too far would flatten the rest.
    scores = [y for _, y in [*chosen, *exits]]
    lowest, highest = min(scores), max(scores)
    axes.set_ylim(bottom=lowest - 0.1 * (highest - lowest) - 1e-3)
    finish(axes, f'Executed {unit} per image', metric)
    add_legend(figure)
    figure.savefig(path)
