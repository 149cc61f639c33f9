"""Residual blocks that compute as many positions of an image as a budget allows.

Budget-aware Dynamic Spatially Adaptive Inference, Zampokas, Bouganis, Tzovaras. A block
has one mask unit and one set of norms for each budget, which share the convolutions.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from mmdyn.methods.spatial.budget import BlockCost
from mmdyn.methods.spatial.mask_unit import MaskSchedule, MaskUnit
from mmdyn.methods.spatial.ops.break_even import BlockKind, break_even_share
from mmdyn.methods.spatial.ops.positions import read_mask
from mmdyn.methods.spatial.ops.residual import dense_residual, sparse_residual
from mmdyn.models.folding import FoldedConvs, can_fold
from mmdyn.models.residual_block import BasicBlock, Bottleneck, ResidualBlock

EXECUTIONS = ('masked', 'sparse', 'auto')


def budget_key(budget: float) -> str:
    """How a budget appears in the keys of a state dict: ``'0_3'`` for 0.3."""
    return f'{budget:g}'.replace('.', '_')


class SpatialBlock(ResidualBlock):
    """A residual block: relu(skip + mask × branch).

    Without gradients a block may change its input, the output of a ReLU, in place.

    Args:
        budgets (Sequence[float]): Budgets to have modules for.
        cell, schedule: See :class:`MaskUnit`.
        execution (str): See :class:`mmdyn.methods.spatial.resnet.SpatialResNet`.
        **kwargs: Arguments of :class:`ResidualBlock`.

    Attributes:
        budget (float | None): The active budget; ``None`` computes every position with
            the stock norms.
        cost (BlockCost | None): Cost of the latest forward pass at a budget.
    """

    def __init__(
        self,
        budgets: Sequence[float],
        cell: int,
        schedule: MaskSchedule,
        execution: str,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.execution = execution
        self.at_budget = nn.ModuleDict()
        for budget in budgets:
            unit = MaskUnit(self.in_channels, self.stride, cell, schedule)
            modules = dict(mask_unit=unit, **copy.deepcopy(self.stock_norms()))
            self.at_budget[budget_key(budget)] = nn.ModuleDict(modules)
        self.budget: float | None = None
        self.cost: BlockCost | None = None
        self._folded = FoldedConvs()

    def stock_norms(self) -> dict[str, nn.Module]:
        """The norms that each budget has its own copy of, by the names of the copies."""
        norms = {name: getattr(self, name) for name in self._norm_names}
        if self.downsample is not None:
            norms['downsample_norm'] = self.downsample[-1]
        return norms

    @property
    def budget_modules(self) -> nn.ModuleDict:
        """Mask unit and norms of the active budget."""
        return self.at_budget[budget_key(self.budget)]

    @property
    def branch_convs(self) -> list[nn.Conv2d]:
        """Convolutions of the branch, in order; the second one is 3×3."""
        return [getattr(self, f'conv{i + 1}') for i in range(len(self._norm_names))]

    def norm(self, index: int) -> nn.Module:
        if self.budget is None:
            return super().norm(index)
        return getattr(self.budget_modules, self._norm_names[index - 1])

    def train(self, mode: bool = True) -> 'SpatialBlock':
        # Hooks that swap weights, for example for moving averages, do so without raising
        # versions, but before the model is evaluated or trained again.
        self._folded.clear()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        self.cost = None
        if self.budget is None:
            return super().forward(x)
        mask = self.budget_modules.mask_unit(x)
        read = read_mask(mask, self.branch_convs, x)
        self.cost = BlockCost.of(self.branch_convs, mask, read)
        if self._must_mask():
            out = self.run_branch(x)
            return self.relu(out * mask.to(out.dtype) + self._skip(x))
        with torch.autocast(x.device.type, enabled=False):  # folded weights have x's type
            return self._executed(x, mask, read)

    def _must_mask(self) -> bool:
        """Whether to compute everything: for gradients, for tracing, as the oracle."""
        return (
            self.execution == 'masked'
            or self.training
            or torch.is_grad_enabled()
            or torch.jit.is_tracing()
        )

    def _skip(self, x: Tensor) -> Tensor:
        if self.downsample is None:
            return x
        return self.budget_modules.downsample_norm(self.downsample[:-1](x))

    def _executed(self, x: Tensor, mask: Tensor, read: Tensor) -> Tensor:
        """Compute the active positions, or all where that is quicker."""
        norms = [self.norm(i + 1) for i in range(len(self._norm_names))]
        convs = [self._folded(c, n, x.dtype) for c, n in zip(self.branch_convs, norms)]
        # The layout of the folded weights: mixed layouts cost more than either.
        x = x.contiguous(memory_format=torch.channels_last)
        skip = x if self.downsample is None else self._folded_skip(x)
        if self.execution == 'sparse' or self._sparse_is_quicker(x):
            return sparse_residual(x, skip, read, mask, convs)
        return dense_residual(x, skip, mask.to(x.dtype), convs)

    def _sparse_is_quicker(self, x: Tensor) -> bool:
        kind = BlockKind.of(self.branch_convs, self.downsample is None, x)
        return float(self.cost.share) < break_even_share(kind)

    def _folded_skip(self, x: Tensor) -> Tensor:
        *pool, conv, _ = self.downsample
        for layer in pool:
            x = layer(x)
        return self._folded(conv, self.budget_modules.downsample_norm, x.dtype)(x)

    @property
    def can_skip(self) -> bool:
        """Whether the norms and convolutions can be computed at single positions."""
        convs = self.branch_convs
        if self.downsample is not None:
            convs.append(self.downsample[-2])
        return all(map(can_fold, convs, self.stock_norms().values()))


class SpatialBasicBlock(SpatialBlock, BasicBlock):
    """Two 3×3 convolutions: the first at the positions that the second one reads."""


class SpatialBottleneck(SpatialBlock, Bottleneck):
    """1×1, 3×3 and 1×1: the first at the positions that the 3×3 reads."""


@contextmanager
def hooked_mask_units(model: nn.Module, hook: Callable) -> Iterator[None]:
    """Add a forward hook to all mask units of a model, inside a ``with`` block.

    It is called with the name of the block, the block, and what torch gives hooks.
    """
    with ExitStack() as handles:
        for name, block in model.named_modules():
            if isinstance(block, SpatialBlock):
                on_mask = partial(hook, name, block)
                for modules in block.at_budget.values():
                    unit = modules.mask_unit
                    handles.enter_context(unit.register_forward_hook(on_mask))
        yield
