"""Operating points that a search found, in a file beside the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmdyn.operating_point import DynamicModule, OperatingPoint

__all__ = [
    'load_operating_points',
    'outermost_dynamic_module',
    'points_file',
    'save_operating_points',
]


def points_file(checkpoint: str | Path) -> Path:
    """Where the points of a checkpoint are: ``epoch_9.points.json`` for
    ``epoch_9.pth``."""
    return Path(checkpoint).with_suffix('.points.json')


def outermost_dynamic_module(model: nn.Module) -> DynamicModule:
    """The dynamic module that is not inside of another one.

    Args:
        model (nn.Module): A whole model or a bare backbone.

    Raises:
        ValueError: If there is none.
    """
    for module in model.modules():  # from the outside in
        if isinstance(module, DynamicModule):
            return module
    raise ValueError(f'nothing in a {type(model).__name__} has operating points')


def save_operating_points(
    path: str | Path, points: Sequence[OperatingPoint], **description: Any
) -> None:
    """Write points to a file.

    Args:
        path (str | Path): The file, usually :func:`points_file` of a checkpoint.
        points (Sequence[OperatingPoint]): The points; their settings are what JSON knows.
        **description: What else a reader of the file may want to know.
    """
    listed = [dict(name=p.name, settings=dict(p.settings)) for p in points]
    content = json.dumps(dict(**description, points=listed), indent=2)
    Path(path).write_text(content + '\n')


def load_operating_points(model: nn.Module, path: str | Path) -> int:
    """Make a model offer the points that were found for its checkpoint.

    They come on top of the points that the model has of itself.

    Args:
        model (nn.Module): The model.
        path (str | Path): The checkpoint, or the file of points itself (``.json``).

    Returns:
        int: How many points the file has; 0 if there is no file beside the checkpoint.

    Raises:
        FileNotFoundError: If ``path`` is a file of points that does not exist.
        ValueError: If the model cannot run at one of the points.

    Example:
        >>> load_operating_points(model, 'work_dirs/cnmm/epoch_15.pth')
        >>> operating_points(model)
    """
    path = Path(path)
    if path.suffix != '.json':
        path = points_file(path)
        if not path.is_file():
            return 0
    saved = json.loads(path.read_text())['points']
    points = [OperatingPoint(point['name'], point['settings']) for point in saved]
    outermost_dynamic_module(model).offer_points(points)
    return len(points)
