"""The one idea of mmdyn: how much may this forward pass cost?

Whatever a method can switch at run time (an exit, thresholds, a budget, the functions
that are kept) is an :class:`OperatingPoint`; whatever has them is a
:class:`DynamicModule`. Loops, reports and tools know only these two.
"""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class OperatingPoint:
    """One setting of everything that a model can switch at run time.

    Args:
        name (str): What users call it, for example ``'exit=1'``.
        settings (Mapping[str, Any]): What the dynamic module reads to run at this point;
            copied, and read-only afterwards.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        object.__setattr__(self, 'settings', MappingProxyType(dict(self.settings)))

    def __reduce__(self):
        # A mappingproxy can be neither pickled nor deep-copied, and models are both.
        return OperatingPoint, (self.name, dict(self.settings))

    def __str__(self) -> str:
        return self.name


DENSE = OperatingPoint('dense')
"""The only point of a model with nothing to switch. In every model the name ``'dense'``
means the point at which nothing is skipped."""

OLD_NAMES = dict(full='dense', baseline='dense')
"""Names until mmdyn 0.1, which older reports have."""


class DynamicModule:
    """Mixin for an ``nn.Module`` whose cost can be chosen at run time.

    A subclass defines :attr:`operating_points` and reads :attr:`operating_point` in its
    forward pass. The state dict does not contain the active point.
    """

    _operating_point: OperatingPoint | None = None
    checks_channels: bool = False
    """Whether its constructor checks that its parts fit together."""

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """The points that this module offers, by default ``dense`` alone."""
        return (DENSE,)

    @property
    def dense_operating_point(self) -> OperatingPoint:
        """The point at which nothing is skipped; other costs are shares of its cost."""
        return self.operating_points[-1]

    @property
    def untrained_operating_points(self) -> tuple[OperatingPoint, ...]:
        """Points kept as a reference, whose weights are not trained."""
        return ()

    @property
    def operating_point(self) -> OperatingPoint:
        """The active point; until one is set, the dense one."""
        return self._operating_point or self.dense_operating_point

    def set_operating_point(self, point: OperatingPoint | str) -> None:
        """Activate one of this module's points, as the function of this name does."""
        point = _find(point, self.operating_points, self.dense_operating_point)
        self.check_runnable(point)
        self.activate(point)

    def check_runnable(self, point: OperatingPoint) -> None:
        """Refuse, by a ``ValueError``, a point that the weights do not allow."""

    def activate(self, point: OperatingPoint) -> None:
        """Switch to one of :attr:`operating_points` that has been checked."""
        self._operating_point = point

    def chooses_exits(self, point: OperatingPoint) -> bool:
        """Whether a point only chooses among the logits of the exits.

        If so, ``exits_at(point, logits)`` makes the choice from ``logits_of_exits``.
        """
        return False

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Losses of the latest training forward pass that steer its cost (scalars)."""
        return {}

    def release_losses(self) -> None:
        """Let go of the graph of the auxiliary losses, after their use."""

    def forward_statistics(self) -> dict[str, float]:
        """Numbers about the latest forward pass, means over its images, to report."""
        return {}


def _find(point: OperatingPoint | str, offered: Sequence, dense) -> OperatingPoint:
    for candidate in offered:
        if point == candidate or point == candidate.name:
            return candidate
    if point in OLD_NAMES:
        warnings.warn(f'the point {point!r} is called dense now', FutureWarning, 4)
    if point == DENSE.name or point in OLD_NAMES:
        return dense
    names = ', '.join(repr(p.name) for p in offered)
    raise ValueError(f'unknown operating point {str(point)!r}; valid ones: {names}')


def _switchable(model: nn.Module) -> list[DynamicModule]:
    """Dynamic modules inside ``model``, itself included, with two or more points."""
    modules = [m for m in model.modules() if isinstance(m, DynamicModule)]
    return [module for module in modules if len(module.operating_points) > 1]


def _join(points: Sequence[OperatingPoint]) -> OperatingPoint:
    if not points:
        return DENSE
    if len(points) == 1:
        return points[0]
    name = '+'.join(point.name for point in points)
    return OperatingPoint(name, {point.name: point.settings for point in points})


def _combinations(model: nn.Module) -> dict[OperatingPoint, tuple[OperatingPoint, ...]]:
    """Each point of the model, with the point that each switchable module takes."""
    choices = [module.operating_points for module in _switchable(model)]
    return {_join(points): points for points in itertools.product(*choices)}


def operating_points(model: nn.Module) -> tuple[OperatingPoint, ...]:
    """List the operating points of a model.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a backbone, as in all
            functions here.

    Returns:
        tuple[OperatingPoint, ...]: The points of the dynamic module inside; all
        combinations, named ``'a+b'`` in module order, where several modules can be
        switched; ``dense`` alone where none can.
    """
    return tuple(_combinations(model))


def find_operating_points(
    model: nn.Module, points: Iterable[OperatingPoint | str]
) -> list[OperatingPoint]:
    """The points of a model with these names; a ValueError lists unknown names."""
    points, offered = list(points), operating_points(model)
    valid = [point.name for point in offered]
    unknown = [str(p) for p in points if str(p) not in {*valid, DENSE.name, *OLD_NAMES}]
    if unknown:
        raise ValueError(f'unknown operating points {unknown}; valid ones: {valid}')
    dense = dense_operating_point(model)
    return [_find(point, offered, dense) for point in points]


def dense_operating_point(model: nn.Module) -> OperatingPoint:
    """The operating point of a model at which nothing is skipped."""
    return _join([module.dense_operating_point for module in _switchable(model)])


def untrained_operating_points(model: nn.Module) -> tuple[OperatingPoint, ...]:
    """The points of a model that are not trained: references for cost alone."""
    modules = _switchable(model)
    return tuple(
        point
        for point, parts in _combinations(model).items()
        if any(p in m.untrained_operating_points for m, p in zip(modules, parts))
    )


def trained_operating_points(model: nn.Module) -> tuple[OperatingPoint, ...]:
    """The points of a model that are trained."""
    untrained = untrained_operating_points(model)
    return tuple(point for point in operating_points(model) if point not in untrained)


def forward_statistics(model: nn.Module) -> dict[str, float]:
    """Numbers about the latest forward pass of a model, means over its images."""
    statistics = [module.forward_statistics() for module in _switchable(model)]
    return {name: value for each in statistics for name, value in each.items()}


def check_runnable(model: nn.Module, point: OperatingPoint) -> None:
    """Refuse, by a ``ValueError``, a point that a model or its weights do not allow."""
    point = _find(point, operating_points(model), dense_operating_point(model))
    for module, part in zip(_switchable(model), _combinations(model)[point]):
        module.check_runnable(part)


def set_operating_point(model: nn.Module, point: OperatingPoint | str) -> None:
    """Run a model at ``point`` from now on.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a backbone.
        point (OperatingPoint | str): A point of the model or its name; ``'dense'`` is the
            dense point, whatever its name.

    Raises:
        ValueError: If the model does not offer the point (the message lists the valid
            ones) or its weights do not allow it. Nothing has changed then.
    """
    point = _find(point, operating_points(model), dense_operating_point(model))
    check_runnable(model, point)
    for module, part in zip(_switchable(model), _combinations(model)[point]):
        module.activate(part)


@contextmanager
def at_operating_point(
    model: nn.Module, point: OperatingPoint | str
) -> Iterator[nn.Module]:
    """Run a model at an operating point inside a ``with`` block.

    The points active before are restored at its end, also after an exception. Arguments
    and errors are those of :func:`set_operating_point`.

    Example:
        >>> with at_operating_point(model, 'exit=1'):
        ...     logits = model(images)
    """
    before = [(module, module.operating_point) for module in _switchable(model)]
    set_operating_point(model, point)
    try:
        yield model
    finally:
        for module, previous in before:
            module.activate(previous)
