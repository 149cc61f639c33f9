"""Operating points that a search found, in a sidecar file of the checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmdyn.evaluation.point_result import current_name
from mmdyn.models.searchable import Searchable
from mmdyn.operating_point import DynamicModule, OperatingPoint
from mmdyn.utils.sidecar import read_sidecar, write_sidecar


def points_file(checkpoint: str | Path) -> Path:
    """Sidecar file of a checkpoint: ``epoch_9.points.json`` of ``epoch_9.pth``."""
    return Path(checkpoint).with_suffix('.points.json')


def outermost_dynamic_module(model: nn.Module) -> DynamicModule:
    """The first dynamic module of a model, from the outside in; else a ``ValueError``."""
    for module in model.modules():
        if isinstance(module, DynamicModule):
            return module
    raise ValueError(f'nothing in a {type(model).__name__} has operating points')


def save_operating_points(
    checkpoint: str | Path, points: Sequence[OperatingPoint], **description: Any
) -> Path:
    """Write points and a description to the sidecar file of a checkpoint; its path."""
    description['points'] = [dict(name=p.name, settings=dict(p.settings)) for p in points]
    return write_sidecar(points_file(checkpoint), checkpoint, description)


def load_operating_points(model: nn.Module, checkpoint: str | Path) -> int:
    """Make a model offer the points that were found for its checkpoint, after its own.

    Args:
        model (nn.Module): The model; a ``ValueError`` if it cannot offer one of them.
        checkpoint (str | Path): The checkpoint. If it has changed since the search, a
            warning says so and nothing is offered.

    Returns:
        int: The number of points; 0 if there is no file of them.

    Example:
        >>> load_operating_points(model, 'work_dirs/cnmm/epoch_15.pth')
        >>> operating_points(model)
    """
    consequence = ': its points are left out. Search them anew'
    content = read_sidecar(points_file(checkpoint), checkpoint, consequence)
    if content is None:
        return 0
    points = []
    for name, settings in ((p['name'], p['settings']) for p in content['points']):
        # A point without settings is the dense one; others have names of their own.
        today = name if settings else current_name(name, dense=name)
        points.append(OperatingPoint(today, settings))
    module = outermost_dynamic_module(model)
    if not isinstance(module, Searchable):
        raise ValueError(f'a {type(module).__name__} has no operating points to find')
    module.offer_points(points)
    return len(points)
