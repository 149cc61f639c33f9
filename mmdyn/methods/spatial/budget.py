"""Budgets: the cost that masks ask for, and the loss that keeps it near a budget.

The loss is that of Dynamic Convolutions, Verelst and Tuytelaars, CVPR 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmdyn.methods.spatial.mask_unit import MaskSchedule
from mmdyn.operating_point import DynamicModule


@dataclass(frozen=True)
class BlockCost:
    """Cost of a block in one forward pass."""

    executed: Tensor  # MACs of the active positions, mean over images; a scalar
    total: int  # MACs of all positions, for one image
    images: int  # images that the block saw; others may have left at an exit

    @classmethod
    def of(cls, convs: Sequence, mask: Tensor, read: Tensor) -> 'BlockCost':
        """Cost of convolutions that compute ``mask``, the first of them ``read``."""
        first, *others = (conv.weight.numel() for conv in convs)
        on_read, on_active = read[0].numel() * first, mask[0].numel() * sum(others)
        executed = read.float().mean() * on_read + mask.float().mean() * on_active
        # Not len(mask): exporters would take the size of the batch for a constant.
        return cls(executed, on_read + on_active, images=mask.shape[0])

    @property
    def share(self) -> Tensor:
        """The share of the block's MACs that is executed."""
        return self.executed / self.total

    def detached(self) -> 'BlockCost':
        """The same without the graph that led to it."""
        return replace(self, executed=self.executed.detach())


def budget_loss(
    executed: Sequence[Tensor], total: Sequence[float], budget: float, progress: float
) -> Tensor:
    """Penalise a network that executes more or less than its budget, in (0, 1].

    The squared distance of the network's share from the budget, plus the mean over the
    blocks of the squared distances of their shares from the bounds
    ``progress * budget`` and ``1 - progress * (1 - budget)``. ``executed`` and ``total``
    are MACs of each block; at a progress of 1 the bounds are the budget, at 0 there are
    none.
    """
    blocks = torch.stack(list(executed))
    totals = blocks.new_tensor(total)
    network = (blocks.sum() / totals.sum() - budget) ** 2
    shares = blocks / totals
    above = (shares - (1 - progress * (1 - budget))).clamp(min=0)
    below = (progress * budget - shares).clamp(min=0)
    return network + (above**2 + below**2).mean()


class BudgetedModule(DynamicModule):
    """Base of modules whose operating points are budgets.

    The settings of a point hold its ``budget``, the share of the masked blocks' MACs to
    execute; a point without one computes everything.
    """

    mask_schedule: MaskSchedule
    """How masks are sampled in training."""

    def masked_blocks(self) -> dict:
        """The blocks with a ``cost`` (BlockCost or ``None``), by their names."""
        raise NotImplementedError

    def block_costs(self) -> dict[str, BlockCost]:
        """Costs of the latest forward pass by block; empty if it masked nothing."""
        blocks = self.masked_blocks().items()
        return {name: block.cost for name, block in blocks if block.cost is not None}

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """The budget loss of the latest training forward pass, if it masked anything."""
        # Blocks that ran without gradients cannot be trained.
        costs = [c for c in self.block_costs().values() if c.executed.requires_grad]
        if not costs:
            return {}
        loss = budget_loss(
            [cost.executed for cost in costs],
            [cost.total for cost in costs],
            self.operating_point.settings['budget'],
            self.mask_schedule.progress,
        )
        return dict(loss_budget=loss)

    def forward_statistics(self) -> dict[str, float]:
        """Share of the masked blocks' MACs that the latest forward pass executed."""
        costs = self.block_costs().values()
        executed = sum(cost.executed.detach() * cost.images for cost in costs)
        total = sum(cost.total * cost.images for cost in costs)
        return dict(executed_share=float(executed) / total if total else 1.0)

    def release_losses(self) -> None:
        for block in self.masked_blocks().values():
            block.cost = block.cost and block.cost.detached()

    def clear_costs(self) -> None:
        """Forget the costs of the latest forward pass."""
        for block in self.masked_blocks().values():
            block.cost = None
