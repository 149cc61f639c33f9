"""Stages of a backbone, and the one walk through them that models with exits take.

A cut is made anew for every forward pass: copies of a model are cut at their own modules.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from types import MappingProxyType
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor, nn

from mmdyn.operating_point import OperatingPoint

NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


def identity(x: Tensor) -> Tensor:
    return x


class Stage(NamedTuple):
    """One part of a backbone.

    Args:
        forward (Callable): Maps the state before it, first the images, to that after it:
            the features, or a dict (of dicts) of tensors.
        out_channels, stride (int): Channels of its features; pixels of a cell's side.
        features (Callable[[Any], Tensor]): Selects the features of the state.
    """

    forward: Callable[[Any], Any]
    out_channels: int
    stride: int
    features: Callable[[Any], Tensor] = identity


class Cut:
    """Registry of functions that cut a backbone, by the qualified name of its class.

    So no package of stock backbones is imported.
    """

    def __init__(self, parts: str):
        self.parts = parts
        self._cuts: dict[str, Callable] = {}

    def register(self, key: str | type | Callable, cut: Callable | None = None):
        """Decorate a cut, of a class, its name, or the annotation of the argument."""
        if cut is not None:
            return self._add(key, cut)
        if isinstance(key, (str, type)):
            return partial(self._add, key)
        return self._add(next(iter(get_type_hints(key).values())), key)

    def _add(self, key: str | type, cut: Callable) -> Callable:
        self._cuts[key if isinstance(key, str) else _qualified(key)] = cut
        return cut

    def __call__(self, backbone: nn.Module) -> list[Stage]:
        """The parts of a backbone from first to last, the stem in the first."""
        for cls in type(backbone).__mro__:
            if cut := self._cuts.get(_qualified(cls)):
                return cut(backbone)
        known = sorted(f'{k.split(".")[0]}.{k.rpartition(".")[2]}' for k in self._cuts)
        raise TypeError(
            f'do not know where to cut a {type(backbone).__name__} into {self.parts}; '
            f'known: {", ".join(known)}. Register another with '
            f'@cut_into_{self.parts}.register'
        )


def _qualified(cls: type) -> str:
    return f'{cls.__module__}.{cls.__qualname__}'


cut_into_stages = Cut('stages')
"""Cuts a backbone into its stages. To register another one::

    @cut_into_stages.register
    def _(backbone: MyBackbone) -> list[Stage]:
        return [Stage(backbone.part1, 64, 4), Stage(backbone.part2, 128, 8)]
"""

cut_into_blocks = Cut('blocks')
"""Cuts a ResNet into its residual blocks."""

CUTS = dict(stage=cut_into_stages, block=cut_into_blocks)


class Cuttable:
    """Answers of a backbone to a model with exits; these are the usual ones."""

    draws: int = 1  # forward passes whose class probabilities are averaged
    trains_stage_wise: bool = True  # whether stages can be trained one after the other

    @property
    def _cut_module(self) -> nn.Module:
        return self

    def stages_for(self, ends: Sequence, settings=NO_SETTINGS, cut='stage', lazy=False):
        """Lists of the stages to run before each of some exits, from the exit before it.

        ``ends`` are the numbers (from 1) of the last ones; a stage is what ``CUTS[cut]``
        gives. If ``lazy``, work that only later exits need waits for them.
        """
        stages = CUTS[cut](self._cut_module)
        return [stages[start:end] for start, end in zip([0, *ends], ends)]

    def exit_points(self, ends: Sequence[int]) -> tuple[OperatingPoint, ...]:
        """Operating points of the backbone for each exit; ``ends`` as above."""
        return ()

    def check_exit_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse, by a ValueError, settings beside the exit that are not its own."""
        if settings:
            kind = type(self._cut_module).__name__
            raise ValueError(f'a {kind} does not know the settings {dict(settings)}')


@dataclass
class _StockBackbone(Cuttable):
    _cut_module: nn.Module = None


def cuttable(backbone: nn.Module) -> Cuttable:
    """The backbone itself, or for a stock one the usual answers."""
    return backbone if isinstance(backbone, Cuttable) else _StockBackbone(backbone)


class Walk:
    """A forward pass of images (N, C, H, W) that pauses after each part.

    It iterates over the features there; between them, :meth:`keep` removes samples.
    """

    def __init__(self, parts: Sequence[Sequence[Stage]], images: Tensor):
        self._parts = iter(parts)
        self._state: Any = images

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        for stage in next(self._parts):
            self._state = stage.forward(self._state)
        return stage.features(self._state)

    def keep(self, stay: Tensor) -> None:
        """Continue with the samples where the booleans (N,) are True."""
        self._state = take(self._state, stay)


def take(x: Tensor | dict | None, kept: Tensor) -> Tensor | dict | None:
    """Select samples of a stage's state, by booleans (N,), in the same memory format."""
    if x is None or (isinstance(x, Tensor) and x.dim() == 0):
        return x  # shared by all samples
    if isinstance(x, dict):
        return {name: take(value, kept) for name, value in x.items()}
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    x = x[kept]
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def chain_of_stages(
    stem: Callable, parts: Iterable[Callable], widths: Iterable, strides: Iterable
) -> list[Stage]:
    """Stages that are one function each, the stem being part of the first."""
    first, *others = parts
    return list(map(Stage, [chain(stem, first), *others], widths, strides))


def chain(*functions: Callable) -> Callable:
    """The composition of functions, the first one first."""
    return lambda x: reduce(lambda x, function: function(x), functions, x)
