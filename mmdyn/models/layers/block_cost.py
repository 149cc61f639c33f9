"""What masks ask of a block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ['BlockCost']


@dataclass(frozen=True)
class BlockCost:
    """What the masks of one forward pass ask of a block.

    Args:
        executed (Tensor | float): MACs of the wanted positions, mean over the images. In
            training a scalar tensor with a gradient.
        total (int): MACs of all positions, for one image.
    """

    executed: Tensor | float
    total: int

    def detached(self) -> BlockCost:
        """The same without the graph that led to it."""
        return BlockCost(float(torch.as_tensor(self.executed).detach()), self.total)
