"""The accuracy–cost curve."""

import math
from collections.abc import Sequence
from pathlib import Path


def pareto_mask(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Tell which points no other point beats in both cost and score.

    Args:
        costs (Sequence[float]): Cost of each point; less is better.
        scores (Sequence[float]): Score of each point; more is better.

    Returns:
        list[bool]: True for each point that no other one equals in one respect and
        beats in the other, or beats in both. A score that is not a number is beaten.
    """

    def dominated(i: int) -> bool:
        return any(
            costs[j] <= costs[i]
            and scores[j] >= scores[i]
            and (costs[j] < costs[i] or scores[j] > scores[i])
            for j in range(len(costs))
        )

    return [not (math.isnan(scores[i]) or dominated(i)) for i in range(len(costs))]


def draw_curve(
    names: Sequence[str],
    macs: Sequence[float],
    scores: Sequence[float],
    path: str | Path,
    *,
    metric: str,
    dense_macs: float,
    dense_score: float | None = None,
) -> None:
    """Draw scores against cost, with the Pareto points joined.

    Args:
        names (Sequence[str]): Name of each operating point.
        macs (Sequence[float]): Mean MACs an image at each.
        scores (Sequence[float]): Score of each; more is better.
        path (str | Path): Where to write the picture; the suffix tells the format.
        metric (str): Name of the score.
        dense_macs (float): MACs an image with nothing skipped.
        dense_score (float | None): Score with nothing skipped, if it was measured.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    unit, scale = ('GMACs', 1e9) if dense_macs >= 1e9 else ('MMACs', 1e6)
    best = pareto_mask(macs, scores)
    points = sorted(zip(macs, scores, best, names))

    figure = Figure(figsize=(6, 4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_dense(axes, dense_macs / scale, dense_score)
    front = [(x / scale, y) for x, y, is_best, _ in points if is_best]
    axes.plot(*zip(*front), 'o-', color='black', label='Pareto points', zorder=3)
    rest = [(x / scale, y) for x, y, is_best, _ in points if not is_best]
    if rest:
        axes.plot(*zip(*rest), 'o', color='black', mfc='white', label='other points')
    for x, y, is_best, name in points:
        # Points on the front are labelled above it, others below: fewer collisions.
        axes.annotate(
            name,
            (x / scale, y),
            xytext=(-4, 6) if is_best else (4, -6),
            textcoords='offset points',
            ha='right' if is_best else 'left',
            va='bottom' if is_best else 'top',
            fontsize=8,
        )
    axes.margins(x=0.18, y=0.15)
    axes.set_xlim(left=0)
    axes.set_xlabel(f'Executed {unit} an image')
    axes.set_ylabel(metric)
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc='outside upper center', ncols=3)
    figure.savefig(path, dpi=200)


def _draw_dense(axes, macs: float, score: float | None) -> None:
    style = dict(color='0.5', linewidth=1, linestyle='--', zorder=1)
    axes.axvline(macs, label='dense model: cost and score', **style)
    if score is not None:
        axes.axhline(score, **style)
