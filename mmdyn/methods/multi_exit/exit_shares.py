"""Which classes leave at which exit, and what that does to their accuracy."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def draw_exit_shares(
    shares: Mapping[str, np.ndarray],
    accuracies: Mapping[str, np.ndarray],
    path: str | Path,
) -> None:
    """Draw a row for each operating point (Lin et al., Figs. 9 and 10).

    On the left the share of each class's samples that leaves at each exit, stacked from
    exit 1 up, classes sorted by their share at exit 1. On the right the accuracy of each
    class against that share. Classes without samples are left out.

    Args:
        shares (Mapping[str, np.ndarray]): By the name of the point, shares (K, M) in
            [0, 1] of K classes at M exits; not a number for a class without samples.
        accuracies (Mapping[str, np.ndarray]): By the name of the point, accuracy (K) of
            each class in [0, 1].
        path (str | Path): Where to write the picture; the suffix tells the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3 * len(shares) + 0.4), layout='constrained')
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(shares), 2, squeeze=False)
    for (left, right), (name, of_classes) in zip(rows, shares.items()):
        present = ~np.isnan(of_classes[:, 0])
        _draw_shares(left, of_classes[present])
        _draw_accuracies(right, of_classes[present, 0], accuracies[name][present])
        left.set_title(name, fontsize=9)
        right.set_title(name, fontsize=9)
    rows[-1, 0].set_xlabel('Classes, sorted by their share at exit 1')
    rows[-1, 1].set_xlabel('Samples of the class that leave at exit 1 (%)')
    handles, labels = rows[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        frameon=False,
        fontsize=8,
        loc='outside upper center',
        ncols=len(labels),
    )
    figure.savefig(path, dpi=200)


def _draw_shares(axes, shares: np.ndarray) -> None:
    """Stack the shares (K, M) of classes; bars would be slow for a thousand classes."""
    order = np.argsort(-shares[:, 0], kind='stable')
    tops = 100 * shares[order].cumsum(axis=1)
    edges = np.arange(len(shares) + 1)
    bottom = np.zeros(len(shares))
    for exit, shade in enumerate(_shades(shares.shape[1])):
        axes.stairs(
            tops[:, exit],
            edges,
            baseline=bottom,
            fill=True,
            color=shade,
            label=f'exit {exit + 1}',
        )
        bottom = tops[:, exit]
    axes.set_xlim(0, len(shares))
    axes.set_ylim(0, 100)
    axes.set_ylabel('Samples of the class (%)')
    axes.spines[['top', 'right']].set_visible(False)


def _draw_accuracies(axes, first_shares: np.ndarray, accuracies: np.ndarray) -> None:
    size = 5 if len(accuracies) <= 100 else 2
    axes.plot(100 * first_shares, 100 * accuracies, 'o', ms=size, color='black')
    axes.set_xlim(-3, 103)
    axes.set_ylabel('Accuracy of the class (%)')
    axes.grid(alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)


def _shades(number: int) -> list[str]:
    return [f'{0.15 + 0.7 * i / max(number - 1, 1):.2f}' for i in range(number)]
