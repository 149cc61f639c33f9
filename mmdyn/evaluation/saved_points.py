"""Operating points that a search found, in a file beside the checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmdyn.models.searchable import Searchable
from mmdyn.operating_point import DynamicModule, OperatingPoint
from mmdyn.utils.sidecar import read_sidecar, write_sidecar


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
    checkpoint: str | Path, points: Sequence[OperatingPoint], **description: Any
) -> Path:
    """Write points to the file beside a checkpoint.

    Args:
        checkpoint (str | Path): The checkpoint that they were found for.
        points (Sequence[OperatingPoint]): The points; their settings are what JSON knows.
        **description: What else a reader of the file may want to know.

    Returns:
        Path: The file.
    """
    found = [dict(name=p.name, settings=dict(p.settings)) for p in points]
    content = dict(**description, points=found)
    return write_sidecar(points_file(checkpoint), checkpoint, content)


def load_operating_points(model: nn.Module, checkpoint: str | Path) -> int:
    """Make a model offer the points that were found for its checkpoint.

    They come on top of the points that the model has of itself. If the checkpoint has
    changed since the search, a warning says so and nothing is offered.

    Args:
        model (nn.Module): The model.
        checkpoint (str | Path): The checkpoint.

    Returns:
        int: How many points were found for it; 0 if there is no file of points beside it.

    Raises:
        ValueError: If a point cannot be the model's.

    Example:
        >>> load_operating_points(model, 'work_dirs/cnmm/epoch_15.pth')
        >>> operating_points(model)
    """
    consequence = ': its points are left out. Search them anew'
    content = read_sidecar(points_file(checkpoint), checkpoint, consequence)
    if content is None:
        return 0
    points = [OperatingPoint(p['name'], p['settings']) for p in content['points']]
    module = outermost_dynamic_module(model)
    if not isinstance(module, Searchable):
        raise ValueError(f'a {type(module).__name__} has no operating points to find')
    module.offer_points(points)
    return len(points)
