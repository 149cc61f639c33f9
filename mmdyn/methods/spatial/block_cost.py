"""What masks ask of a block."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockCost:
    """What the masks of one forward pass ask of a block.

    Args:
        executed (Tensor | float): MACs of the wanted positions, mean over the images. In
            training a scalar tensor with a gradient.
        total (int): MACs of all positions, for one image.
        images (int): Images that the block saw; early exits may have taken others.
    """

    executed: Tensor | float
    total: int
    images: int

    @property
    def share(self) -> Tensor | float:
        """The share of the block's MACs that is executed."""
        return self.executed / self.total

    def detached(self) -> 'BlockCost':
        """The same without the graph that led to it."""
        if torch.is_tensor(self.executed):
            return replace(self, executed=self.executed.detach())
        return self
