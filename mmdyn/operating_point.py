"""The one idea of mmdyn: how much may this forward pass cost?

Whatever a method can switch at run time (an exit, thresholds, a budget, the functions
that are kept) is an :class:`OperatingPoint`; whatever has them is a
:class:`DynamicModule`. Loops, reports and tools know only these two.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

__all__ = [
    'FULL',
    'DynamicModule',
    'OperatingPoint',
    'at_operating_point',
    'dense_operating_point',
    'find_operating_points',
    'operating_points',
    'set_operating_point',
    'trained_operating_points',
    'untrained_operating_points',
]


@dataclass(frozen=True)
class OperatingPoint:
    """One setting of everything that a model can switch at run time.

    Args:
        name (str): What users call it, for example ``'exit=1'``.
        settings (Mapping[str, Any]): What the dynamic module needs to know to run at
            this point. It is copied and cannot be changed afterwards.
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


FULL = OperatingPoint('full')
"""The only point of a model with nothing to switch."""


class DynamicModule:
    """Mixin for an ``nn.Module`` whose cost can be chosen at run time.

    A subclass defines :attr:`operating_points` and reads :attr:`operating_point` in its
    forward pass. The point in force is a choice of the moment, not a weight: it is not
    in the state dict.
    """

    _operating_point: OperatingPoint | None = None
    found_points: tuple[OperatingPoint, ...] = ()
    """Points that a search found after training; a subclass that can be searched lists
    them among its :attr:`operating_points`."""

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """The points that this module offers; a static method has just ``full``."""
        return (FULL,)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Check the settings of a point to offer; a subclass that can be searched
        overrides this.

        Raises:
            ValueError: If they cannot be the module's, whatever its weights.
        """
        raise ValueError(f'a {type(self).__name__} has no operating points to find')

    def offer_points(self, points: Sequence[OperatingPoint]) -> None:
        """Offer points that a search found, in the place of those found before.

        Args:
            points (Sequence[OperatingPoint]): The points. One that the module already
                has under the same name and with the same settings may be among them.

        Raises:
            ValueError: If one cannot be the module's, or it has another point of that
                name.
        """
        own = {p.name: p for p in self.operating_points if p not in self.found_points}
        new = []
        for point in points:
            self.check_settings(point.settings)
            if point.name not in own:
                own[point.name] = point
                new.append(point)
            elif own[point.name] != point:
                raise ValueError(f'there is another operating point {point.name!r}')
        self.found_points = tuple(new)
        if self._operating_point not in self.operating_points:
            self._operating_point = None  # it was one of those found before

    @property
    def dense_operating_point(self) -> OperatingPoint:
        """The point at which nothing is skipped; other costs are shares of its cost."""
        return self.operating_points[-1]

    @property
    def untrained_operating_points(self) -> tuple[OperatingPoint, ...]:
        """Points kept as a reference, whose own weights training does not reach."""
        return ()

    @property
    def operating_point(self) -> OperatingPoint:
        """The point in force; until one is set, the dense one."""
        return self._operating_point or self.dense_operating_point

    def set_operating_point(self, point: OperatingPoint | str) -> None:
        """Run at ``point`` from now on.

        Args:
            point (OperatingPoint | str): One of :attr:`operating_points`, or its name.

        Raises:
            ValueError: If the module does not offer that point, or its weights do not
                allow it.
        """
        point = _find(point, self.operating_points)
        self.check_runnable(point)
        self._operating_point = point

    def check_runnable(self, point: OperatingPoint) -> None:
        """Refuse a point that the module offers but its weights do not allow."""

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Losses of the latest training forward pass that steer its cost (scalars)."""
        return {}

    def forward_statistics(self) -> dict[str, float]:
        """Numbers about the latest forward pass, means over its images, to report."""
        return {}


def _find(point: OperatingPoint | str, offered) -> OperatingPoint:
    for candidate in offered:
        if point == candidate or point == candidate.name:
            return candidate
    names = ', '.join(repr(p.name) for p in offered)
    raise ValueError(f'unknown operating point {str(point)!r}; valid ones: {names}')


def _switchable(model: nn.Module) -> list[DynamicModule]:
    """Dynamic modules inside ``model``, itself included, that have a choice."""
    return [
        module
        for module in model.modules()
        if isinstance(module, DynamicModule) and len(module.operating_points) > 1
    ]


def _join(points: tuple[OperatingPoint, ...]) -> OperatingPoint:
    if len(points) == 1:
        return points[0]
    if not points:
        return FULL
    return OperatingPoint(
        '+'.join(p.name for p in points), {p.name: p.settings for p in points}
    )


def _combinations(model: nn.Module) -> dict[OperatingPoint, tuple[OperatingPoint, ...]]:
    """Each point of the model, with the point that each switchable module takes."""
    choices = [module.operating_points for module in _switchable(model)]
    return {_join(points): points for points in itertools.product(*choices)}


def operating_points(model: nn.Module) -> tuple[OperatingPoint, ...]:
    """List the operating points of a model.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.

    Returns:
        tuple[OperatingPoint, ...]: The points of the dynamic module inside. Where several
        modules have a choice, every combination, named ``'a+b'`` in module order; where
        none has, the one point ``full``.
    """
    return tuple(_combinations(model))


def find_operating_points(model: nn.Module, names: Iterable[str]) -> list[OperatingPoint]:
    """The operating points of a model that have some names.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
        names (Iterable[str]): The names.

    Raises:
        ValueError: If the model does not offer one of them.
    """
    offered = {point.name: point for point in operating_points(model)}
    names = list(names)
    unknown = [name for name in names if name not in offered]
    if unknown:
        raise ValueError(
            f'unknown operating points {unknown}; valid ones: {list(offered)}'
        )
    return [offered[name] for name in names]


def dense_operating_point(model: nn.Module) -> OperatingPoint:
    """The operating point of a model at which nothing is skipped.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
    """
    return _join(tuple(m.dense_operating_point for m in _switchable(model)))


def untrained_operating_points(model: nn.Module) -> tuple[OperatingPoint, ...]:
    """The operating points of a model that training does not reach.

    They can be set and serve as a reference, but what they score says nothing.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
    """
    modules = _switchable(model)
    return tuple(
        point
        for point, parts in _combinations(model).items()
        if any(p in m.untrained_operating_points for m, p in zip(modules, parts))
    )


def trained_operating_points(model: nn.Module) -> tuple[OperatingPoint, ...]:
    """The operating points of a model but those that training does not reach.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
    """
    untrained = untrained_operating_points(model)
    return tuple(point for point in operating_points(model) if point not in untrained)


def forward_statistics(model: nn.Module) -> dict[str, float]:
    """Numbers about the latest forward pass of a model's dynamic modules.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
    """
    return {
        name: value
        for module in _switchable(model)
        for name, value in module.forward_statistics().items()
    }


def set_operating_point(model: nn.Module, point: OperatingPoint | str) -> None:
    """Make every dynamic module of a model run at ``point`` from now on.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
        point (OperatingPoint | str): One of ``operating_points(model)``, or its name.

    Raises:
        ValueError: If the model does not offer that point (the message lists those it
            does), or its weights do not allow it; nothing is changed then.
    """
    combinations = _combinations(model)
    parts = combinations[_find(point, combinations)]
    modules = _switchable(model)
    for module, part in zip(modules, parts):
        module.check_runnable(part)
    for module, part in zip(modules, parts):
        module.set_operating_point(part)


@contextmanager
def at_operating_point(
    model: nn.Module, point: OperatingPoint | str
) -> Iterator[nn.Module]:
    """Run a model at an operating point inside a ``with`` block.

    The points in force before come back at its end, also after an exception.

    Args:
        model (nn.Module): A whole model, a DDP-wrapped one or a bare backbone.
        point (OperatingPoint | str): One of ``operating_points(model)``, or its name.

    Yields:
        nn.Module: The model.

    Raises:
        ValueError: If the model does not offer that point.

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
            module.set_operating_point(previous)
