"""What a model predicts at its operating points, side by side."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

PANEL = 3.2  # inches, the width of a panel
TITLE = 0.5  # inches, the height of two lines
LETTERS = 32  # of a title that fit in a line


class Prediction(NamedTuple):
    """What was predicted for an image at one operating point.

    Args:
        picture (np.ndarray): The image with the prediction drawn on it, (H, W, 3), RGB in
            0…255.
        macs (int): MACs that were executed for it.
    """

    picture: np.ndarray
    macs: int


class Row(NamedTuple):
    """An image and what was predicted for it.

    Args:
        name (str): Name of the image.
        image (np.ndarray): The image, (H, W, 3), RGB in 0…255.
        predictions (dict[str, Prediction]): The prediction at each operating point, by
            the point's name.
    """

    name: str
    image: np.ndarray
    predictions: dict[str, Prediction]


def cost_writer(rows: Sequence[Row]) -> Callable[[int], str]:
    """How to write MACs, in one unit for all predictions."""
    largest = max(each.macs for row in rows for each in row.predictions.values())
    unit, scale, digits = ('GMACs', 1e9, 3) if largest >= 1e9 else ('MMACs', 1e6, 2)
    return lambda macs: f'{macs / scale:.{digits}f} {unit}'


def draw_predictions(rows: Sequence[Row], path: str | Path) -> None:
    """Draw a grid: a row for each image, the image first, then a column for each point.

    A panel says what was executed for its own image, as this may depend on the image.

    Args:
        rows (Sequence[Row]): The images, with predictions at the same points.
        path (str | Path): Where to write the picture; the suffix tells the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points, written = list(rows[0].predictions), cost_writer(rows)
    shapes = [row.image.shape[0] / row.image.shape[1] for row in rows]
    width, height = PANEL * (1 + len(points)), PANEL * sum(shapes) + TITLE * len(rows)
    figure = Figure(figsize=(width, height), layout='compressed')
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(rows), 1 + len(points), squeeze=False, height_ratios=shapes
    )
    for panels, row in zip(grid, rows):
        _show(panels[0], row.image, _wrapped(row.name))
        for axes, point in zip(panels[1:], points):
            picture, macs = row.predictions[point]
            _show(axes, picture, f'{_wrapped(point)}\n{written(macs)}')
    figure.savefig(path, dpi=200)


def _wrapped(title: str) -> str:
    return textwrap.fill(title, LETTERS)


def _show(axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
