"""Figure of the exits that classes take, and of the accuracy of these classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmdyn.visualization.style import add_legend, finish, new_figure, shades


def draw_exit_shares(
    shares: Mapping[str, np.ndarray],
    accuracies: Mapping[str, np.ndarray],
    path: str | Path,
) -> None:
    """Draw a row for each operating point (Lin et al., Figs. 9 and 10).

    On the left the share of each class's samples that take each exit, stacked from exit 1
    up, classes sorted by their share at exit 1. On the right the accuracy of each class
    against that share. Classes without samples are left out.

    Args:
        shares (Mapping[str, np.ndarray]): By point, shares (K, M) in [0, 1] of K classes
            at M exits; NaN for a class without samples.
        accuracies (Mapping[str, np.ndarray]): By point, accuracies (K) in [0, 1].
        path (str | Path): The file; its suffix gives the format.
    """
    figure = new_figure(8, 3 * len(shares) + 0.4)
    rows = figure.subplots(len(shares), 2, squeeze=False)
    for (left, right), (name, of_classes) in zip(rows, shares.items()):
        present = ~np.isnan(of_classes[:, 0])
        _draw_shares(left, of_classes[present])
        _draw_accuracies(right, of_classes[present, 0], accuracies[name][present])
        left.set_title(name, fontsize=9)
        right.set_title(name, fontsize=9)
    rows[-1, 0].set_xlabel('Classes, sorted by their share at exit 1')
    rows[-1, 1].set_xlabel('Samples of the class that take exit 1 (%)')
    handles, labels = rows[0, 0].get_legend_handles_labels()
    add_legend(figure, ncols=len(labels), handles=handles, labels=labels)
    figure.savefig(path)


def _draw_shares(axes, shares: np.ndarray) -> None:
    """Stack the shares (K, M) of classes; bars would be slow for a thousand classes."""
    order = np.argsort(-shares[:, 0], kind='stable')
    tops = 100 * shares[order].cumsum(axis=1)
    edges = np.arange(len(shares) + 1)
    bottom = np.zeros(len(shares))
    for exit, shade in enumerate(shades(shares.shape[1], first=0.15, last=0.85)):
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
    finish(axes, ylabel='Samples of the class (%)')
    axes.grid(False)


def _draw_accuracies(axes, first_shares: np.ndarray, accuracies: np.ndarray) -> None:
    size = 5 if len(accuracies) <= 100 else 2
    axes.plot(100 * first_shares, 100 * accuracies, 'o', ms=size, color='black')
    axes.set_xlim(-3, 103)
    finish(axes, ylabel='Accuracy of the class (%)')
