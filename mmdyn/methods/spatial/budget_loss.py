"""Budget loss of Dynamic Convolutions, Verelst and Tuytelaars, CVPR 2020."""

from collections.abc import Sequence

import torch
from torch import Tensor


def budget_loss(
    executed: Sequence[Tensor], total: Sequence[float], budget: float, progress: float
) -> Tensor:
    """Penalise a network that executes more or less than its budget.

    The squared distance of the network's share from the budget, plus the mean over the
    blocks of the squared distances of their shares from the bounds
    ``progress * budget`` and ``1 - progress * (1 - budget)``.

    Args:
        executed (Sequence[Tensor]): MACs of each block, scalars with gradients.
        total (Sequence[float]): MACs of each block with nothing skipped.
        budget (float): Share of the MACs that the network may execute, in (0, 1].
        progress (float): From 1, where the bounds of a block are the budget itself, to
            0, where any share will do.

    Returns:
        Tensor: The loss, a scalar.
    """
    blocks = torch.stack(list(executed))
    totals = blocks.new_tensor(total)
    network = (blocks.sum() / totals.sum() - budget) ** 2
    shares = blocks / totals
    above = (shares - (1 - progress * (1 - budget))).clamp(min=0)
    below = (progress * budget - shares).clamp(min=0)
    return network + (above**2 + below**2).mean()
