"""Grids of images with the predictions at several operating points."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmdyn.visualization.style import macs_unit, new_figure

PANEL = 3.2  # inches, the width of a panel
TITLE = 0.5  # inches, the height of two lines
LETTERS = 32  # of a title that fit in a line


class Prediction(NamedTuple):
    """What was predicted for an image at one operating point."""

    picture: np.ndarray  # H, W, 3: RGB in 0…255, with the prediction drawn on it
    macs: int  # that were executed for it


class Row(NamedTuple):
    """An image and its predictions."""

    name: str
    image: np.ndarray  # H, W, 3: RGB in 0…255
    predictions: dict[str, Prediction]  # by the name of the operating point


def cost_writer(rows: Sequence[Row]) -> Callable[[int], str]:
    """A function that writes MACs, in one unit for all predictions."""
    unit, scale = macs_unit(
        max(each.macs for row in rows for each in row.predictions.values())
    )
    digits = 3 if unit == 'GMACs' else 2
    return lambda macs: f'{macs / scale:.{digits}f} {unit}'


def draw_predictions(rows: Sequence[Row], path: str | Path) -> None:
    """Draw a row for each image: the image first, then a column for each point.

    The rows have predictions at the same points. The title of a panel has the MACs of its
    own image, which the cost may depend on.
    """
    points, written = list(rows[0].predictions), cost_writer(rows)
    shapes = [row.image.shape[0] / row.image.shape[1] for row in rows]
    columns = 1 + len(points)
    height = PANEL * sum(shapes) + TITLE * len(rows)
    figure = new_figure(PANEL * columns, height, 'compressed')
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=shapes)
    for panels, row in zip(grid, rows):
        _show(panels[0], row.image, _wrapped(row.name))
        for axes, point in zip(panels[1:], points):
            picture, macs = row.predictions[point]
            _show(axes, picture, f'{_wrapped(point)}\n{written(macs)}')
    figure.savefig(path)


def _wrapped(title: str) -> str:
    return textwrap.fill(title, LETTERS)


def _show(axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=10)
    axes.set(xticks=[], yticks=[])
