"""Budgeted spatially adaptive ResNet: many budgets in one network.

Budget-aware Dynamic Spatially Adaptive Inference, Zampokas, Bouganis, Tzovaras, on the
masks of Dynamic Convolutions, Verelst and Tuytelaars, CVPR 2020.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from numbers import Real

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmdyn.methods.spatial.block import (
    EXECUTIONS,
    SpatialBasicBlock,
    SpatialBlock,
    SpatialBottleneck,
    budget_key,
)
from mmdyn.methods.spatial.budget import BudgetedModule
from mmdyn.methods.spatial.mask_unit import MaskSchedule
from mmdyn.methods.spatial.random_masks import active_budget, synthetic_masks
from mmdyn.models.residual_block import BasicBlock, Bottleneck
from mmdyn.models.resnet import ResNet
from mmdyn.operating_point import DENSE, OperatingPoint
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_choice, check_counts


@MODELS.register_module()
class SpatialResNet(BudgetedModule, ResNet):
    """ResNet whose blocks compute as many positions of an image as a budget allows.

    Its operating points are ``budget=<b>`` for each budget b below 1, and ``dense``.
    A budget is the share of the MACs of the blocks' branches that is executed, on
    average over images; stem, 1×1 convolutions on skip connections and mask units are
    not part of it. ``dense`` computes every position with the stock norms, so a stock
    checkpoint gives exactly its own outputs there.

    Train it with ``mmdyn.BudgetScheduleHook``, and under DDP with
    ``find_unused_parameters=True`` in the config: an iteration uses the modules of one
    budget.

    Without gradients blocks change their inputs in place and keep a copy of their
    convolutions for each budget, with its norms folded in.

    Args:
        depth (int): Number of layers with weights.
        budgets (Sequence[float]): Budgets, rising, in (0, 1]; 1 stands for ``dense``,
            which is then trained as well.
        mask_stride (int): Height and width of the cells of positions of a block's output
            that are decided together, for hardware that prefers larger pieces; 1 as in
            the paper.
        execution (str): How budgets are executed at inference. ``'masked'``: every
            position is computed and multiplied by the mask, as always in training.
            ``'sparse'``: only active positions. ``'auto'``: the quicker way for each
            block and input, by the times of both on this machine, which are measured
            when a kind of block first runs.
        **kwargs: Arguments of :class:`ResNet`.

    Raises:
        ValueError: For budgets outside (0, 1], repeated or unsorted, an unknown
            execution, or ``'sparse'`` with norms that need every position.

    Example:
        >>> model = dict(backbone=dict(type='mmdyn.SpatialResNet', depth=50))
    """

    spatial_blocks = {BasicBlock: SpatialBasicBlock, Bottleneck: SpatialBottleneck}

    def __init__(
        self,
        depth: int,
        budgets: Sequence[float] = (0.3, 0.5, 0.7),
        mask_stride: int = 1,
        execution: str = 'auto',
        **kwargs,
    ):
        self.budgets = _check_budgets(budgets)
        check_counts(mask_stride=mask_stride)
        check_choice('execution', execution, EXECUTIONS)
        self.mask_schedule = MaskSchedule()
        self._block_arguments = dict(
            budgets=self.masked_budgets,
            cell=mask_stride,
            schedule=self.mask_schedule,
            execution=execution,
        )
        super().__init__(depth, **kwargs)
        if not all(block.can_skip for block in self.masked_blocks().values()):
            if execution == 'sparse':
                raise ValueError(
                    "execution='sparse' needs batch norms and plain convolutions, got "
                    f"{self.conv_arguments}; 'auto' and 'masked' compute every position "
                    'with them'
                )
            for block in self.masked_blocks().values():
                block.execution = 'masked'
        masked = (
            OperatingPoint(f'budget={b:g}', dict(budget=b)) for b in self.masked_budgets
        )
        self._operating_points = (*masked, DENSE)

    def make_block(self, index: int, **kwargs) -> nn.Module:
        return self.spatial_blocks[self.block](**self._block_arguments, **kwargs)

    @property
    def masked_budgets(self) -> list[float]:
        """The budgets with masks: all but 1."""
        return [budget for budget in self.budgets if budget < 1]

    def masked_blocks(self) -> dict[str, SpatialBlock]:
        """The residual blocks by their names, ``'layer1.0'`` and so on."""
        return {
            f'{name}.{index}': block
            for name in self.res_layers
            for index, block in enumerate(getattr(self, name))
        }

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        return self._operating_points

    @property
    def untrained_operating_points(self) -> tuple[OperatingPoint, ...]:
        return () if self.budgets[-1] == 1 else (self.dense_operating_point,)

    def activate(self, point: OperatingPoint) -> None:
        super().activate(point)
        self.clear_costs()
        for block in self.masked_blocks().values():
            block.budget = point.settings.get('budget')

    def coherent_masks(self) -> AbstractContextManager:
        """Smooth synthetic masks that execute exactly the active budget, for timing."""
        budget = active_budget(self)
        return synthetic_masks(self, lambda: budget)

    def forward_stem(self, x: Tensor) -> Tensor:
        self.clear_costs()  # here, as a pass to an early exit skips the later blocks
        return super().forward_stem(x)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features of images at the active operating point.

        Args:
            x (Tensor): Images of shape (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: Outputs of the stages in ``out_indices``.
        """
        outs = super().forward(x)
        if not x.is_contiguous():
            return outs
        # Sparse execution is channels last, and operators such as mmcv's RoIAlign read
        # any map as if it were not.
        return tuple(out.contiguous() for out in outs)

    def frozen_modules(self) -> list[nn.Module]:
        """The modules of frozen stages that a dense checkpoint has, not the budgets'."""
        return sum(map(_without_budgets, super().frozen_modules()), [])

    def init_residuals(self) -> None:
        super().init_residuals()
        self.fill_budget_norms()
        for block in self.masked_blocks().values():
            for modules in block.at_budget.values():
                modules.mask_unit.reset_parameters()

    @torch.no_grad()
    def fill_budget_norms(self) -> None:
        """Make the norms of every budget copies of the stock ones."""
        for block in self.masked_blocks().values():
            for name, stock in block.stock_norms().items():
                for modules in block.at_budget.values():
                    modules[name].load_state_dict(stock.state_dict())

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        super().rename_stock_keys(state_dict, prefix)
        found = _budgets_in(state_dict, prefix)
        keys = [budget_key(b) for b in self.masked_budgets]
        if found and found != set(keys):
            print_log(
                f'the checkpoint was trained with the budgets {_listed(found)}, this '
                f'network has {_listed(keys)}: loading those in common, '
                f'{_listed(found & set(keys)) or "none"}',
                logger='current',
                level=logging.WARNING,
            )
        for name, block in self.masked_blocks().items():
            for key in set(keys) - found:
                _copy_norms(state_dict, f'{prefix}{name}.', block, key)
            for key in found - set(keys):
                _drop(state_dict, f'{prefix}{name}.at_budget.{key}.')


def _without_budgets(module: nn.Module) -> list[nn.Module]:
    """The module, or of a stage of spatial blocks the parts that all budgets share."""
    blocks = [block for block in module.children() if isinstance(block, SpatialBlock)]
    parts = (part for block in blocks for part in block.named_children())
    return [part for name, part in parts if name != 'at_budget'] if blocks else [module]


def _check_budgets(budgets: Sequence[float]) -> tuple[float, ...]:
    if (
        not isinstance(budgets, Sequence)
        or not budgets
        or not all(map(_is_budget, budgets))
    ):
        raise ValueError(f'budgets must be numbers in (0, 1], got {budgets!r}')
    if any(low >= high for low, high in zip(budgets, budgets[1:])):
        raise ValueError(f'budgets must rise and not repeat, got {budgets!r}')
    names = [f'{budget:g}' for budget in budgets]
    if len(set(names)) < len(names) or (names[-1] == '1' and budgets[-1] != 1):
        raise ValueError(f'budgets must differ in six digits, got {budgets!r}')
    return tuple(budgets)


def _is_budget(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < value <= 1


def _budgets_in(state_dict: dict, prefix: str) -> set[str]:
    pattern = re.compile(rf'{re.escape(prefix)}layer\d+\.\d+\.at_budget\.([^.]+)\.')
    return {match[1] for key in state_dict if (match := pattern.match(key))}


def _listed(keys: Iterable[str]) -> str:
    return ', '.join(sorted(key.replace('_', '.') for key in keys))


def _copy_norms(state_dict: dict, start: str, block: SpatialBlock, key: str) -> None:
    """Give a budget that a checkpoint lacks the stock norms of a block."""
    stock_names = {module: name for name, module in block.named_modules()}
    for name, stock in block.stock_norms().items():
        for tensor in stock.state_dict():
            source = f'{start}{stock_names[stock]}.{tensor}'
            if source in state_dict:
                own = f'{start}at_budget.{key}.{name}.{tensor}'
                state_dict[own] = state_dict[source]


def _drop(state_dict: dict, start: str) -> None:
    for key in [key for key in state_dict if key.startswith(start)]:
        del state_dict[key]
