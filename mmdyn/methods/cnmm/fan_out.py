"""All functions from a node to one scale, as one convolution.

Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV 2019.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FanOut(nn.Module):
    """3×3 convolutions of the same map, computed as one.

    Args:
        in_channels (int): Channels of the map.
        out_channels (int): Channels of each function's output.
        targets (Sequence[int]): Nodes that the functions lead to.
        octaves (int): How many times their scale halves the map; the last halving is the
            convolution's stride, those before are average pooling.
    """

    def __init__(
        self, in_channels: int, out_channels: int, targets: Sequence[int], octaves: int
    ):
        super().__init__()
        self.targets = tuple(targets)
        self.out_channels = out_channels
        self.pooling = 2 ** (octaves - 1) if octaves else 1
        self.conv = nn.Conv2d(
            in_channels,
            out_channels * len(self.targets),
            kernel_size=3,
            stride=2 if octaves else 1,
            padding=1,
            bias=False,
        )

    def rows(self, targets: Sequence[int]) -> Tensor:
        """Weights (len(targets) * out_channels, in_channels, 3, 3) of some targets.

        They are a view if the targets, given in order, are neighbours.
        """
        places = [self.targets.index(target) for target in targets]
        first, last = places[0], places[-1]
        weight, width = self.conv.weight, self.out_channels
        if last - first + 1 == len(places):
            return weight[first * width : (last + 1) * width]
        return torch.cat([weight[i * width : (i + 1) * width] for i in places])

    def forward(self, x: Tensor, targets: Sequence[int]) -> tuple[Tensor, ...]:
        """Compute the functions of x (N, in_channels, H, W) to some targets, in order."""
        if self.pooling > 1:
            x = nn.functional.avg_pool2d(x, self.pooling, ceil_mode=True)
        y = nn.functional.conv2d(
            x, self.rows(targets), stride=self.conv.stride, padding=self.conv.padding
        )
        return torch.split(y, self.out_channels, dim=1)
