"""Budgeted spatially adaptive ResNet: many budgets in one network.

Budget-aware Dynamic Spatially Adaptive Inference, Zampokas, Bouganis, Tzovaras, on the
masks of Dynamic Convolutions, Verelst and Tuytelaars, CVPR 2020.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from numbers import Real

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
    not part of it. ``dense`` gives exactly the outputs of a stock checkpoint.

    Train it with ``mmdyn.BudgetScheduleHook``, and under DDP with
    ``find_unused_parameters=True`` in the config: an iteration uses the modules of one
    budget. Without gradients blocks change their inputs in place and keep a copy of
    their convolutions for each budget, with its norms folded in.

    Args:
        depth (int): Number of layers with weights.
        budgets (Sequence[float]): Budgets, rising, in (0, 1]; 1 stands for ``dense``,
            which is then trained as well.
        mask_stride (int): Height and width of the cells of a block's output that are
            decided together; 1 as in the paper.
        execution (str): How budgets are executed at inference. ``'masked'``: every
            position is computed and multiplied by the mask, as always in training.
            ``'sparse'``: only active positions. ``'auto'``: the quicker way for each
            kind of block, which is measured when one first runs.
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
        below_one = [budget for budget in self.budgets if budget < 1]
        self._budget_keys = {budget_key(budget) for budget in below_one}
        self._block_arguments = dict(
            budgets=below_one,
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
        masked = [OperatingPoint(f'budget={b:g}', dict(budget=b)) for b in below_one]
        self._operating_points = (*masked, DENSE)

    def make_block(self, index: int, **kwargs) -> nn.Module:
        return self.spatial_blocks[self.block](**self._block_arguments, **kwargs)

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
        """Compute the features of images (N, C, H, W) from stages ``out_indices``."""
        outs = super().forward(x)
        if not x.is_contiguous():
            return outs
        # Sparse execution is channels last, and operators such as mmcv's RoIAlign read
        # any map as if it were not.
        return tuple(out.contiguous() for out in outs)

    def frozen_modules(self) -> list[nn.Module]:
        """The modules of frozen stages but those of single budgets."""
        modules = []
        for module in super().frozen_modules():
            blocks = [b for b in module.children() if isinstance(b, SpatialBlock)]
            parts = [part for block in blocks for part in block.named_children()]
            shared = [part for name, part in parts if name != 'at_budget']
            modules += shared or [module]
        return modules

    def init_residuals(self) -> None:
        super().init_residuals()
        for block in self.masked_blocks().values():
            for modules in block.at_budget.values():
                modules.mask_unit.reset_parameters()
                for name, stock in block.stock_norms().items():
                    modules[name].load_state_dict(stock.state_dict())

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        super().rename_stock_keys(state_dict, prefix)
        start = re.escape(prefix)
        pattern = re.compile(rf'{start}layer\d+\.\d+\.at_budget\.([^.]+)\.')
        theirs = {key: m[1] for key in state_dict if (m := pattern.match(key))}
        found, keys = set(theirs.values()), self._budget_keys
        if found and found != keys:
            print_log(
                f'the checkpoint was trained with the budgets {_listed(found)}, this '
                f'network has {_listed(keys)}: loading those in common, '
                f'{_listed(found & keys) or "none"}',
                logger='current',
                level=logging.WARNING,
            )
        for key, budget in theirs.items():
            if budget not in keys:
                del state_dict[key]
        for name, block in self.masked_blocks().items():
            _copy_norms(state_dict, f'{prefix}{name}.', block, keys - found)


def _check_budgets(budgets: Sequence[float]) -> tuple[float, ...]:
    values = budgets if isinstance(budgets, Sequence) else ()
    numbers = [b for b in values if isinstance(b, Real) and not isinstance(b, bool)]
    if not values or numbers != list(values) or not all(0 < b <= 1 for b in numbers):
        raise ValueError(f'budgets must be numbers in (0, 1], got {budgets!r}')
    rounded = [float(f'{budget:g}') for budget in budgets]
    if rounded != sorted(set(rounded)) or rounded[-1] == 1 > budgets[-1]:
        problem = 'budgets must differ in six digits and must rise and not repeat'
        raise ValueError(f'{problem}, got {budgets!r}')
    return tuple(budgets)


def _listed(keys: Iterable[str]) -> str:
    return ', '.join(sorted(key.replace('_', '.') for key in keys))


def _copy_norms(state_dict: dict, start: str, block: SpatialBlock, keys) -> None:
    """Give budgets that a checkpoint lacks the stock norms of a block."""
    stock_names = {module: name for name, module in block.named_modules()}
    for name, stock in block.stock_norms().items():
        for tensor in stock.state_dict():
            source = f'{start}{stock_names[stock]}.{tensor}'
            if source in state_dict:
                own = [f'{start}at_budget.{key}.{name}.{tensor}' for key in keys]
                state_dict.update(dict.fromkeys(own, state_dict[source]))
