"""Cuts of backbones into stages, and the one walk through them.

A cut is made for every forward pass rather than stored: modules keep their places and
names, and copies of a model are cut at their own modules.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from types import MappingProxyType
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor, nn

from mmdyn.operating_point import OperatingPoint


def identity(x: Tensor) -> Tensor:
    return x


class Stage(NamedTuple):
    """One part of a backbone; all parts in sequence are the whole.

    Args:
        forward (Callable[[Any], Any]): Computes the state after this stage from the state
            before it (the images, in the first stage): features, or a dict (of dicts) of
            tensors.
        out_channels (int): Channels of its features.
        stride (int): Pixels of the image per cell of its features, along one side.
        features (Callable[[Any], Tensor]): Picks the features out of the state.
    """

    forward: Callable[[Any], Any]
    out_channels: int
    stride: int
    features: Callable[[Any], Tensor] = identity


class Cut:
    """A function of a backbone, chosen by the qualified name of its class or of a base.

    Names make stock backbones known without importing their packages.

    Args:
        parts (str): The name of the parts, for messages.
    """

    def __init__(self, parts: str):
        self.parts = parts
        self._cuts: dict[str, Callable] = {}

    def register(self, key: str | type | Callable) -> Callable:
        """Decorate the cut of a class of backbones.

        Args:
            key (str | type | Callable): The class or its qualified name; or the function
                itself, whose argument is annotated with the class.
        """
        if isinstance(key, (str, type)):
            return partial(self._add, key)
        return self._add(next(iter(get_type_hints(key).values())), key)

    def _add(self, key: str | type, cut: Callable) -> Callable:
        self._cuts[key if isinstance(key, str) else _qualified(key)] = cut
        return cut

    def __call__(self, backbone: nn.Module) -> list[Stage]:
        """The parts of a backbone from first to last; the stem belongs to the first.

        Raises:
            TypeError: For a class of backbones that has no cut.
        """
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
"""Cuts a backbone into its stages. To make another one known::

    @cut_into_stages.register
    def _(backbone: MyBackbone) -> list[Stage]:
        return [Stage(backbone.part1, 64, 4), Stage(backbone.part2, 128, 8)]
"""

cut_into_blocks = Cut('blocks')
"""Cuts a ResNet into its residual blocks."""

CUTS = dict(stage=cut_into_stages, block=cut_into_blocks)


class Cuttable:
    """Interface of backbones to models with exits, with the answers of most backbones.

    Attributes:
        draws (int): Forward passes whose class probabilities are to be averaged.
        trains_stage_wise (bool): Whether stages can be trained one after the other.
    """

    draws: int = 1
    trains_stage_wise: bool = True

    @property
    def module(self) -> nn.Module:
        """The backbone that is asked."""
        return self

    def stages_for(
        self,
        ends: Sequence[int],
        settings: Mapping[str, Any] = MappingProxyType({}),
        cut: str = 'stage',
        lazy: bool = False,
    ) -> list[list[Stage]]:
        """The stages between each exit and the one before it.

        Args:
            ends (Sequence[int]): Number (from 1) of the last stage before each exit.
            settings (Mapping): Settings of the operating point.
            cut (str): ``'stage'`` or ``'block'``: the parts that count as stages.
            lazy (bool): Whether to delay work that only later exits need until these are
                reached, if there is such work.
        """
        stages = CUTS[cut](self.module)
        return [stages[start:end] for start, end in zip([0, *ends], ends)]

    def exit_points(self, ends: Sequence[int]) -> tuple[OperatingPoint, ...]:
        """Operating points that the backbone adds to those of a model with such exits."""
        return ()

    def check_exit_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse, by a ``ValueError``, unknown settings, other than exits, of a point."""
        if settings:
            raise ValueError(
                f'a {type(self.module).__name__} does not know the settings '
                f'{dict(settings)}'
            )


def cuttable(backbone: nn.Module) -> Cuttable:
    """The interface of a backbone: its own, or for a stock one the usual one."""
    return backbone if isinstance(backbone, Cuttable) else _StockBackbone(backbone)


class _StockBackbone(Cuttable):
    module: nn.Module = None

    def __init__(self, backbone: nn.Module):
        self.module = backbone


class Walk:
    """A forward pass that halts behind each part: an iterator of the features there.

    Args:
        parts (Sequence[Sequence[Stage]]): Stages of each part, as of ``stages_for``.
        images (Tensor): Images of shape (N, C, H, W).

    Example:
        >>> walk = Walk(parts, images)
        >>> for features in walk:
        ...     stay = decide(features)
        ...     walk.keep(stay)
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
        """Continue with the samples whose booleans (N,) are True."""
        self._state = take(self._state, stay)


def take(x: Tensor | dict | None, kept: Tensor) -> Tensor | dict | None:
    """The kept samples of a state, in the same memory format."""
    if x is None or (isinstance(x, Tensor) and x.dim() == 0):
        return x  # the same for all samples
    if isinstance(x, dict):
        return {name: take(value, kept) for name, value in x.items()}
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    kept = x[kept]
    if channels_last:
        return kept.contiguous(memory_format=torch.channels_last)
    return kept


def chain_of_stages(
    stem: Callable, parts: Iterable[Callable], widths: Iterable, strides: Iterable
) -> list[Stage]:
    """Stages of one function each; the stem is part of the first."""
    first, *others = parts
    return [
        Stage(*values) for values in zip([chain(stem, first), *others], widths, strides)
    ]


def chain(*functions: Callable) -> Callable:
    """The composition of functions, the first one first."""
    return lambda x: reduce(lambda x, function: function(x), functions, x)
