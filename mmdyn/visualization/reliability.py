"""How often predictions are right that are so and so sure."""

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmdyn.evaluation.uncertainty.reliability import ReliabilityBins

_STYLES = ('o-', 's--', '^:', 'D-.')


def draw_reliability(
    path: str | Path,
    curves: 'Mapping[str, ReliabilityBins]',
    title: str = 'Accuracy of equally confident predictions',
) -> None:
    """Draw accuracy against confidence (Guo et al., Fig. 4, with bins of equal count).

    Below the diagonal predictions are too sure, above it not sure enough.

    Args:
        path (str | Path): Where to write the picture; the suffix tells the format.
        curves (Mapping[str, ReliabilityBins]): Bins by the name to give them, for example
            an exit, or before and after a temperature; the name comes with their ECE.
        title (str): What stands above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    legend_rows = len(curves) // 2 + 1
    figure = Figure(figsize=(5, 5 + 0.2 * legend_rows), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color='0.6', lw=1, label='calibrated', zorder=1)
    shades = _shades(len(curves))
    for (name, bins), shade, style in zip(curves.items(), shades, cycle(_STYLES)):
        axes.plot(
            100 * bins.confidences,
            100 * bins.accuracies,
            style,
            ms=4,
            lw=1.2,
            color=shade,
            label=f'{name}: ECE {100 * bins.calibration_error:.1f} %',
        )
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_aspect('equal')
    axes.set_title(title, fontsize=10)
    axes.set_xlabel('Confidence: probability of the predicted class (%)')
    axes.set_ylabel('Accuracy (%)')
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    figure.legend(frameon=False, fontsize=8, loc='outside lower center', ncols=2)
    figure.savefig(path, dpi=200)


def _shades(number: int) -> list[str]:
    return [f'{0.6 * i / max(number - 1, 1):.2f}' for i in range(number)]
