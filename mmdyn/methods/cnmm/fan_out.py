"""All functions from a node to one scale, as one convolution: CNMM, Ruiz, Verbeek."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mmdyn.methods.cnmm.graph import Function


class FanOut(nn.Module):
    """3×3 convolutions of the same map, one for each target node, computed as one.

    Their scale halves the map ``octaves`` times; the last halving is the convolution's
    stride, those before are average pooling. Each has ``out_channels`` channels.
    """

    def __init__(
        self, in_channels: int, out_channels: int, targets: Sequence[int], octaves: int
    ):
        super().__init__()
        self.targets = tuple(targets)
        self.out_channels = out_channels
        self.pooling = 2 ** max(octaves - 1, 0)
        self.conv = nn.Conv2d(
            in_channels,
            out_channels * len(self.targets),
            kernel_size=3,
            stride=2 if octaves else 1,
            padding=1,
            bias=False,
        )

    def rows(self, targets: Sequence[int]) -> Tensor:
        """Weights of some targets in order; a view if these are neighbours."""
        places = [self.targets.index(target) for target in targets]
        first, last = places[0], places[-1]
        weight, width = self.conv.weight, self.out_channels
        if last - first + 1 == len(places):
            return weight[first * width : (last + 1) * width]
        return torch.cat([weight[i * width : (i + 1) * width] for i in places])

    def forward(self, x: Tensor, targets: Sequence[int]) -> tuple[Tensor, ...]:
        """Outputs for some targets, in order, from x (N, in_channels, H, W)."""
        if self.pooling > 1:
            x = nn.functional.avg_pool2d(x, self.pooling, ceil_mode=True)
        y = nn.functional.conv2d(
            x, self.rows(targets), stride=self.conv.stride, padding=self.conv.padding
        )
        return torch.split(y, self.out_channels, dim=1)


def make_fan_outs(
    functions: Iterable[Function], scales: Sequence[int], channels: Sequence[int]
) -> nn.ModuleDict:
    """The convolutions of all functions, by their node and the scale of their targets."""
    targets: dict[tuple[int, int], list[int]] = {}
    for t, s in functions:
        targets.setdefault((t, scales[s]), []).append(s)
    fan_outs = nn.ModuleDict({str(node): nn.ModuleDict() for node in range(len(scales))})
    for (t, scale), nodes in targets.items():
        widths = channels[scales[t]], channels[scale]
        fan_outs[str(t)][f'scale{scale}'] = FanOut(*widths, nodes, scale - scales[t])
    return fan_outs
