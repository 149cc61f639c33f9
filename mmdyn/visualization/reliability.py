"""Reliability diagrams: accuracy against confidence."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path

from mmdyn.evaluation.uncertainty.reliability import ReliabilityBins
from mmdyn.visualization.style import add_legend, finish, new_figure, shades

STYLES = ('o-', 's--', '^:', 'D-.')


def draw_reliability(
    path: str | Path,
    curves: Mapping[str, ReliabilityBins],
    title: str = 'Accuracy of equally confident predictions',
) -> None:
    """Draw a reliability diagram (Guo et al., Fig. 4, with bins of equal count).

    Predictions are overconfident below the diagonal and underconfident above it. The
    legend gives the ECE of each curve after its name.
    """
    legend_rows = len(curves) // 2 + 1
    figure = new_figure(5, 5 + 0.2 * legend_rows)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color='0.6', lw=1, label='calibrated', zorder=1)
    looks = zip(shades(len(curves)), cycle(STYLES))
    for (name, bins), (shade, style) in zip(curves.items(), looks):
        places = 100 * bins.confidences, 100 * bins.accuracies
        label = f'{name}: ECE {100 * bins.calibration_error:.1f} %'
        axes.plot(*places, style, ms=4, lw=1.2, color=shade, label=label)
    axes.set(xlim=(-2, 102), ylim=(-2, 102), aspect='equal')
    axes.set_title(title, fontsize=10)
    finish(axes, 'Confidence: probability of the predicted class (%)', 'Accuracy (%)')
    add_legend(figure, 'outside lower center', ncols=2)
    figure.savefig(path)
