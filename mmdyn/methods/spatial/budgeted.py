"""What modules have in common that are trained to keep budgets with masks."""

from torch import Tensor

from mmdyn.methods.spatial.block_cost import BlockCost
from mmdyn.methods.spatial.budget_loss import budget_loss
from mmdyn.methods.spatial.mask_unit import MaskSchedule
from mmdyn.operating_point import DynamicModule


class BudgetedModule(DynamicModule):
    """Base of modules whose operating points are budgets.

    The settings of a point hold its ``budget``, the share of the masked blocks' MACs to
    execute; a point without one computes everything.

    Attributes:
        mask_schedule (MaskSchedule): How masks are sampled in training.
    """

    mask_schedule: MaskSchedule

    def masked_blocks(self) -> dict:
        """The blocks with a ``cost`` (BlockCost or ``None``), by their names."""
        raise NotImplementedError

    def block_costs(self) -> dict[str, BlockCost]:
        """Costs of the latest forward pass by block; empty if it masked nothing."""
        costs = {name: block.cost for name, block in self.masked_blocks().items()}
        return {name: cost for name, cost in costs.items() if cost is not None}

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """The budget loss of the latest training forward pass, if it masked anything.

        The pass's graph is let go: call it once after each.
        """
        # Of blocks that ran without gradients nothing is to be learned.
        costs = [
            cost
            for cost in self.block_costs().values()
            if getattr(cost.executed, 'requires_grad', False)
        ]
        if not costs:
            return {}
        loss = budget_loss(
            [cost.executed for cost in costs],
            [cost.total for cost in costs],
            self.operating_point.settings['budget'],
            self.mask_schedule.progress,
        )
        for block in self.masked_blocks().values():
            if block.cost is not None:
                block.cost = block.cost.detached()
        return dict(loss_budget=loss)

    def forward_statistics(self) -> dict[str, float]:
        """Share of the masked blocks' MACs that the latest forward pass executed."""
        costs = [cost.detached() for cost in self.block_costs().values()]
        executed = sum(cost.executed * cost.images for cost in costs)
        total = sum(cost.total * cost.images for cost in costs)
        return dict(executed_share=float(executed) / total if total else 1.0)

    def clear_costs(self) -> None:
        """Forget the costs of the latest forward pass."""
        for block in self.masked_blocks().values():
            block.cost = None
