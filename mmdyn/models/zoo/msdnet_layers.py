"""The layers of an MSDNet, which each work on several scales."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """The scales and channels of each layer; layers count from 1, scales from the finest.

    Args:
        stage_ends (Sequence[int]): Last layer of each stage.
        growth_rate, growth_factors, bottleneck_factors, reduction: See
            :class:`mmdyn.models.zoo.msdnet.MSDNet`.
    """

    stage_ends: Sequence[int]
    growth_rate: int
    growth_factors: Sequence[int]
    bottleneck_factors: Sequence[int]
    reduction: float

    def __post_init__(self):
        growth, bottleneck = self.growth_factors, self.bottleneck_factors
        if not len(growth) == len(bottleneck) > 0:
            raise ValueError(
                f'growth_factors and bottleneck_factors need one value for each scale, '
                f'got {growth} and {bottleneck}'
            )
        if self.growth_rate % 2:
            raise ValueError(f'growth_rate must be even, got {self.growth_rate}')
        if not 0 < self.reduction <= 1:
            raise ValueError(f'reduction must lie in (0, 1], got {self.reduction!r}')

    @property
    def num_layers(self) -> int:
        return self.stage_ends[-1]

    @property
    def num_scales(self) -> int:
        return len(self.growth_factors)

    def finest_scale(self, number: int) -> int:
        """The finest scale that a layer works on."""
        return (number - 1) // ceil(self.num_layers / self.num_scales)

    def layers_until(self, number: int, scale: int) -> int:
        """Layers of a scale that the coarsest one's first ``number`` layers need.

        Each scale reads the next finer one's features of a layer earlier.
        """
        return number - (self.num_scales - 1 - scale)

    def make_layer(
        self, number: int, channels: Sequence[int], norm_cfg: dict
    ) -> nn.ModuleDict:
        """A layer, by its scales, given the channels of each scale before it."""
        finest = self.finest_scale(number)
        finest_before = self.finest_scale(max(1, number - 1))
        parts = nn.ModuleDict()
        for scale in range(finest, self.num_scales):
            if number > self.layers_until(self.num_layers, scale):
                continue  # no exit would ever see it
            factor = self.growth_factors[scale]
            growth, reduced, finer = self.growth_rate * factor, None, None
            if finest > finest_before:
                # Channels of all scales stay in the ratio of their growth factors.
                units = (channels[scale] + growth) // factor
                reduced = max(1, int(self.reduction * units)) * factor
            if scale > finest_before:
                finer = (channels[scale - 1], self.bottleneck_factors[scale - 1])
            same = (channels[scale], self.bottleneck_factors[scale])
            parts[str(scale)] = ScaleLayer(same, finer, growth, reduced, norm_cfg)
        return parts


class ScaleLayer(nn.Module):
    """One layer at one scale: appends new maps to those of the layers before.

    Args:
        same (tuple[int, int]): Channels C of this scale's features, and of the 1×1
            convolution for one of the 3×3 that follows it, though at most C.
        finer (tuple[int, int] | None): Those of the next finer scale, if it is read.
        growth (int): Channels that the layer adds, half of them from the finer scale.
        reduced (int | None): Channels of a transition, a 1×1 convolution behind it.
        norm_cfg (dict): Config of the norms.
    """

    def __init__(
        self,
        same: tuple[int, int],
        finer: tuple[int, int] | None,
        growth: int,
        reduced: int | None,
        norm_cfg: dict,
    ):
        super().__init__()
        wide = same[0] + growth
        self.out_channels = reduced or wide
        self.transition = nn.Identity()
        if reduced:
            self.transition = ConvModule(wide, reduced, 1, norm_cfg=norm_cfg)
        self.from_finer = None
        if finer:
            growth //= 2
            self.from_finer = _bottleneck(*finer, growth, 2, norm_cfg)
        self.from_same = _bottleneck(*same, growth, 1, norm_cfg)

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        """Extend features x (N, C, H, W), given the finer scale's (N, C', 2H, 2W)."""
        new = [] if self.from_finer is None else [self.from_finer(finer)]
        return self.transition(torch.cat([x, *new, self.from_same(x)], dim=1))


def _bottleneck(
    in_channels: int, width: int, out_channels: int, stride: int, norm_cfg: dict
) -> nn.Sequential:
    inner = min(in_channels, width * out_channels)
    return nn.Sequential(
        ConvModule(in_channels, inner, 1, norm_cfg=norm_cfg),
        ConvModule(inner, out_channels, 3, stride=stride, padding=1, norm_cfg=norm_cfg),
    )
