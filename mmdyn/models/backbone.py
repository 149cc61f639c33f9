"""Bases of the backbones: frozen stages, fixed norms, stock checkpoints."""

import re
from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdyn.models.stages import Cuttable, Stage, chain_of_stages
from mmdyn.utils.validation import check_between, check_out_indices

KAIMING = [
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
]
"""The usual initialisation of a convolutional network."""


class Backbone(Cuttable, BaseModule):
    """Base of the backbones; a subclass calls :meth:`freeze` when its modules exist."""

    norm_eval: bool = False  # keep BN statistics fixed in training

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that are not to be trained."""
        return []

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        """Rename keys of stock checkpoints to ours, in place; others stay.

        The weights can be a whole model's: the backbone's keys start with ``prefix``.
        """

    def freeze(self) -> None:
        for module in self.frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'Backbone':
        super().train(mode)
        self.freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        self.rename_stock_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class StackOfStages(Backbone):
    """Base of the backbones that are a stem and a sequence of stages.

    A subclass has the modules :attr:`stem_names` and :attr:`stages`, or overrides
    :attr:`stage_modules`.

    Args:
        num_stages (int): Number of stages.
        out_indices (Sequence[int] | None): Stages, from 0, whose outputs :meth:`forward`
            returns. ``None``: the last.
        frozen_stages (int): Train neither the stem nor this many first stages; -1
            freezes nothing.
        norm_eval (bool): Keep BN statistics fixed in training.
        init_cfg (dict | list | None): Initialisation.
        num_outputs (int | None): Number of modules that ``out_indices`` can name, if more
            follow the stages.

    Raises:
        ValueError: For a stage number that does not exist.
    """

    stem_names: Sequence[str] = ('stem',)

    def __init__(
        self,
        num_stages: int,
        out_indices: Sequence[int] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list | None = KAIMING,
        num_outputs: int | None = None,
    ):
        super().__init__(init_cfg)
        check_between('frozen_stages', frozen_stages, -1, num_stages)
        self.num_stages = num_stages
        self.out_indices = check_out_indices(out_indices, (num_outputs or num_stages) - 1)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

    @property
    def stem_modules(self) -> list[nn.Module]:
        """The modules before the stages, in the order in which they run."""
        return [getattr(self, name) for name in self.stem_names]

    @property
    def stage_modules(self) -> Sequence[nn.Module]:
        """The stages, and the modules behind them that give outputs."""
        return self.stages

    def forward_stem(self, x: Tensor) -> Tensor:
        """The input of the first stage, of images x (N, C, H, W)."""
        for module in self.stem_modules:
            x = module(x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the stages in ``out_indices``, of images x (N, C, H, W)."""
        x = self.forward_stem(x)
        outs = []
        for index, stage in enumerate(self.stage_modules):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [*self.stem_modules, *self.stage_modules[: self.frozen_stages]]


def stages_of_stack(backbone: StackOfStages) -> list[Stage]:
    """The cut of a stack that knows its ``stage_channels`` and ``stage_strides``."""
    return chain_of_stages(
        backbone.forward_stem,
        backbone.stage_modules,
        backbone.stage_channels,
        backbone.stage_strides,
    )


def rename_modules(state_dict: dict, names: dict[str, str]) -> None:
    """Rename modules of a state dict, from old to new names, in place, all at once."""
    moved = {}
    for key in list(state_dict):
        module, _, tensor = key.rpartition('.')
        if module in names:
            moved[f'{names[module]}.{tensor}'] = state_dict.pop(key)
    state_dict.update(moved)


def rename_numbered_layers(state_dict: dict, start: str, layers: Sequence[str]) -> None:
    """Rename torchvision's convolutions and norms, which are numbered, in place.

    Their keys begin with ``start``, for example ``'features.'``. ``layers`` are our names
    of the ConvModules, from the first.
    """

    def numbers(module: str) -> list[int]:
        return [int(number) for number in re.findall(r'\d+', module[len(start) :])]

    theirs = {key.rpartition('.')[0] for key in state_dict if key.startswith(start)}
    names, layer, layers = {}, None, iter(layers)
    for module in sorted(theirs, key=numbers):
        is_conv = state_dict[f'{module}.weight'].dim() == 4
        layer = next(layers, None) if is_conv else layer
        if layer is None:  # we have fewer
            break
        names[module] = f'{layer}.conv' if is_conv else f'{layer}.bn'
    rename_modules(state_dict, names)
