"""Figure of scores against cost for the pruned networks and exits of one model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdyn.visualization.style import add_legend, finish, macs_unit, new_figure, shades

Curve = Sequence[tuple[float, float]]  # MACs per image, score


def draw_frontier(
    pruned: Mapping[str, Curve],
    exits: Curve,
    envelopes: Mapping[str, Curve],
    chosen: Curve,
    path: str | Path,
    metric: str,
) -> None:
    """Draw pruned networks by exit, whole exits, envelopes by ranking, chosen points."""
    unit, scale = macs_unit(exits[-1][0])

    def xy(curve):
        return [x / scale for x, _ in curve], [y for _, y in curve]

    figure = new_figure(6.4, 4.4)
    axes = figure.add_subplot()
    greys = shades(len(pruned), first=0.8, last=0.4)
    for shade, (name, curve) in zip(greys, pruned.items()):
        axes.plot(*xy(curve), '.', ms=4, color=shade, label=f'{name}, pruned')
    steps = dict(where='post')
    axes.step(*xy(exits), 's--', color='0.3', mfc='white', label='exits alone', **steps)
    steps.update(color='black', lw=1.4)
    for style, (name, curve) in zip(('-', ':'), envelopes.items()):
        axes.step(*xy(curve), style, label=f'best, {name}', **steps)
    axes.plot(*xy(chosen), 'o', color='black', label='points to offer', zorder=4)
    axes.set_xlim(left=0)
    # Networks that are pruned too far would flatten the rest.
    scores = [y for _, y in [*chosen, *exits]]
    lowest, highest = min(scores), max(scores)
    axes.set_ylim(bottom=lowest - 0.1 * (highest - lowest) - 1e-3)
    finish(axes, f'Executed {unit} per image', metric)
    add_legend(figure)
    figure.savefig(path)
