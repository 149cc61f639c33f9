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

    Left: the shares (K, M) of each class's samples at the exits, stacked, classes sorted
    by their share at exit 1. Right: the accuracies (K) against that share. Classes of NaN
    have no samples and are left out.
    """
    figure = new_figure(8, 3 * len(shares) + 0.4)
    rows = figure.subplots(len(shares), 2, squeeze=False)
    for (left, right), (name, of_classes) in zip(rows, shares.items()):
        present = ~np.isnan(of_classes[:, 0])
        _draw_shares(left, of_classes[present])
        first = 100 * of_classes[present, 0]
        size = 5 if len(first) <= 100 else 2
        right.plot(first, 100 * accuracies[name][present], 'o', ms=size, color='black')
        right.set_xlim(-3, 103)
        finish(right, ylabel='Accuracy of the class (%)')
        left.set_title(name, fontsize=9)
        right.set_title(name, fontsize=9)
    left.set_xlabel('Classes, sorted by their share at exit 1')
    right.set_xlabel('Samples of the class that take exit 1 (%)')
    handles, _ = left.get_legend_handles_labels()
    add_legend(figure, ncols=len(handles), handles=handles)
    figure.savefig(path)


def _draw_shares(axes, shares: np.ndarray) -> None:
    """Stack the shares (K, M) of classes; bars would be slow for a thousand classes."""
    order = np.argsort(-shares[:, 0], kind='stable')
    bottom, *tops = 100 * np.pad(shares[order], ((0, 0), (1, 0))).cumsum(axis=1).T
    greys = shades(len(tops), first=0.15, last=0.85)
    for exit, (top, grey) in enumerate(zip(tops, greys), 1):
        band = dict(baseline=bottom, fill=True, color=grey, label=f'exit {exit}')
        axes.stairs(top, np.arange(len(shares) + 1), **band)
        bottom = top
    axes.set_xlim(0, len(shares))
    axes.set_ylim(0, 100)
    finish(axes, ylabel='Samples of the class (%)')
    axes.grid(False)
