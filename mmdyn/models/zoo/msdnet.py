"""Multi-Scale Dense Networks for Resource Efficient Image Classification, Huang et al.,
ICLR 2018: a backbone made for exits, which keeps coarse maps from its first layer on.

With the paper's lazy evaluation: of the finer scales no layer is computed before an exit
asks for what it leads to. Early exits therefore cost less than where each layer is
computed at all scales.

Not here: the paper's own classifiers, and networks without bottlenecks.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil
from operator import itemgetter

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdyn.models.backbone import Backbone
from mmdyn.models.stages import Stage, cut_into_stages
from mmdyn.registry import MODELS
from mmdyn.utils.validation import (
    check_choice,
    check_counts,
    check_out_indices,
)


class ScaleLayer(nn.Module):
    """One layer at one scale: appends new maps to those of the layers before.

    Args:
        in_channels (int): Channels C of this scale's features.
        growth (int): Channels that the layer adds; if there is a finer scale, half of
            them come from there.
        width (int): Channels of the 1×1 convolution for one of the 3×3 that follows it,
            but never more than there are before it.
        finer_channels (int | None): Channels of the next finer scale's features.
        finer_width (int | None): The ``width`` there.
        reduced (int | None): Channels of a transition, a 1×1 convolution behind the
            layer; ``None``: there is none.
        norm_cfg (dict): Config of the norms.
    """

    def __init__(
        self,
        in_channels: int,
        growth: int,
        width: int,
        finer_channels: int | None = None,
        finer_width: int | None = None,
        reduced: int | None = None,
        norm_cfg: dict = dict(type='BN'),
    ):
        super().__init__()
        self.out_channels = reduced or in_channels + growth
        self.transition = nn.Identity()
        if reduced:
            self.transition = ConvModule(
                in_channels + growth, reduced, 1, norm_cfg=norm_cfg
            )
        self.from_finer = None
        if finer_channels is not None:
            growth //= 2
            self.from_finer = _bottleneck(
                finer_channels, growth, finer_width, 2, norm_cfg
            )
        self.from_same = _bottleneck(in_channels, growth, width, 1, norm_cfg)

    def forward(self, x: Tensor, finer: Tensor | None) -> Tensor:
        """Extend features x (N, C, H, W), given the finer scale's (N, C', 2H, 2W)."""
        new = [] if self.from_finer is None else [self.from_finer(finer)]
        return self.transition(torch.cat([x, *new, self.from_same(x)], dim=1))


def _bottleneck(
    in_channels: int, out_channels: int, width: int, stride: int, norm_cfg: dict
) -> nn.Sequential:
    inner = min(in_channels, width * out_channels)
    return nn.Sequential(
        ConvModule(in_channels, inner, 1, norm_cfg=norm_cfg),
        ConvModule(inner, out_channels, 3, stride=stride, padding=1, norm_cfg=norm_cfg),
    )


@MODELS.register_module()
class MSDNet(Backbone):
    """MSDNet for CIFAR (three scales) and ImageNet (four).

    A stage is a run of layers with an exit behind it; its features are those of the
    coarsest scale. The layers form as many groups as there are scales, and each group
    works on one scale less than the one before, without the finest. The first layer of a
    group reads that scale a last time, and a transition behind it halves the channels.

    The defaults are the paper's network for ImageNet with k=4; for CIFAR and anytime
    prediction it has ``stem='cifar', num_blocks=11, base=4, step=2``.

    Args:
        num_blocks (int): Stages.
        base (int): Layers of the first stage, on top of the stem.
        step (int): Layers of each further stage (``step_mode='even'``), or how many more
            each has than the one before (``'lin_grow'``).
        step_mode (str): ``'even'`` or ``'lin_grow'``.
        stem (str): ``'imagenet'`` (7×7 convolution of stride 2, max-pooling) or
            ``'cifar'`` (one 3×3 of stride 1) before the finest scale.
        stem_channels (int | None): Channels after the stem at a scale of growth factor 1.
            ``None``: 32, for CIFAR 16.
        growth_rate (int | None): Channels that a layer adds at such a scale, even.
            ``None``: 16, for CIFAR 6.
        growth_factors (Sequence[int] | None): For each scale, from the finest, what
            multiplies ``stem_channels`` and ``growth_rate``. ``None``: 1, 2, 4, 4, for
            CIFAR 1, 2, 4.
        bottleneck_factors (Sequence[int] | None): For each scale, channels of a 1×1
            convolution for one of the 3×3 behind it. ``None``: ``growth_factors``.
        reduction (float): Share of the channels that a transition keeps.
        in_channels (int): Channels of the images.
        out_indices (Sequence[int] | None): Stages, from 0, whose features
            :meth:`forward` returns. ``None``: the last.
        norm_cfg (dict): Config of the norms.
        norm_eval (bool): Keep BN statistics fixed in training.
        init_cfg (dict | list | None): Initialisation.

    Raises:
        ValueError: For an unknown stem or step mode, factors of different numbers of
            scales, an odd growth rate, a reduction outside (0, 1], or values below 1.

    Example:
        >>> model = dict(backbone=dict(type='mmdyn.MSDNet', stem='cifar', step=2))
    """

    # Stem channels, growth rate, growth factors.
    stem_settings = {'imagenet': (32, 16, (1, 2, 4, 4)), 'cifar': (16, 6, (1, 2, 4))}

    def __init__(
        self,
        num_blocks: int = 5,
        base: int = 4,
        step: int = 4,
        step_mode: str = 'even',
        stem: str = 'imagenet',
        stem_channels: int | None = None,
        growth_rate: int | None = None,
        growth_factors: Sequence[int] | None = None,
        bottleneck_factors: Sequence[int] | None = None,
        reduction: float = 0.5,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        norm_cfg: dict = dict(type='BN'),
        norm_eval: bool = False,
        init_cfg: dict | list | None = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
        ],
    ):
        super().__init__(init_cfg)
        check_choice('stem', stem, tuple(self.stem_settings))
        check_choice('step_mode', step_mode, ('even', 'lin_grow'))
        given = (stem_channels, growth_rate, growth_factors)
        stem_channels, growth_rate, growth_factors = (
            default if value is None else value
            for value, default in zip(given, self.stem_settings[stem])
        )
        if bottleneck_factors is None:
            bottleneck_factors = growth_factors
        check_counts(
            num_blocks=num_blocks,
            base=base,
            step=step,
            stem_channels=stem_channels,
            growth_rate=growth_rate,
            growth_factors=growth_factors,
            bottleneck_factors=bottleneck_factors,
            in_channels=in_channels,
        )
        if not len(growth_factors) == len(bottleneck_factors) > 0:
            raise ValueError(
                f'growth_factors and bottleneck_factors need one value for each scale, '
                f'got {growth_factors} and {bottleneck_factors}'
            )
        if growth_rate % 2:
            raise ValueError(
                f'growth_rate must be even, for two scales give one half each, got '
                f'{growth_rate}'
            )
        if not 0 < reduction <= 1:
            raise ValueError(f'reduction must lie in (0, 1], got {reduction!r}')
        self.num_scales = len(growth_factors)
        self.growth_rate = growth_rate
        self.growth_factors = tuple(growth_factors)
        self.bottleneck_factors = tuple(bottleneck_factors)
        self.reduction = reduction
        self.norm_cfg = norm_cfg
        self.norm_eval = norm_eval
        self.out_indices = check_out_indices(out_indices, num_blocks - 1)
        sizes = [base + step * i for i in range(num_blocks)]
        if step_mode == 'even':
            sizes[1:] = [step] * (num_blocks - 1)
        self.stage_ends = [sum(sizes[: i + 1]) for i in range(num_blocks)]
        self.num_layers = self.stage_ends[-1]

        channels = [stem_channels * factor for factor in self.growth_factors]
        self.stem = nn.ModuleList([self._make_stem(stem, in_channels, channels[0])])
        for finer, coarser in zip(channels, channels[1:]):
            self.stem.append(
                ConvModule(finer, coarser, 3, stride=2, padding=1, norm_cfg=norm_cfg)
            )
        self.stride = (4 if stem == 'imagenet' else 1) * 2 ** (self.num_scales - 1)
        self.layers = nn.ModuleList()
        coarsest = []
        for number in range(1, self.num_layers + 1):
            layer = self._make_layer(number, channels)
            self.layers.append(layer)
            for scale, part in layer.items():
                channels[int(scale)] = part.out_channels
            coarsest.append(channels[-1])
        self.stage_channels = [coarsest[end - 1] for end in self.stage_ends]
        self.feat_dim = channels[-1]

    def _make_stem(self, stem: str, in_channels: int, channels: int) -> nn.Module:
        if stem == 'cifar':
            return ConvModule(in_channels, channels, 3, padding=1, norm_cfg=self.norm_cfg)
        return nn.Sequential(
            ConvModule(
                in_channels, channels, 7, stride=2, padding=3, norm_cfg=self.norm_cfg
            ),
            nn.MaxPool2d(3, stride=2, padding=1),
        )

    def finest_scale(self, number: int) -> int:
        """The finest scale, from 0, that layer ``number``, from 1, works on."""
        return (number - 1) // ceil(self.num_layers / self.num_scales)

    def _make_layer(self, number: int, channels: list[int]) -> nn.ModuleDict:
        """Layer ``number``, given the channels of each scale before it."""
        finest = self.finest_scale(number)
        finest_before = self.finest_scale(max(1, number - 1))
        parts = nn.ModuleDict()
        for scale in range(finest, self.num_scales):
            if number > self._layers_until(self.num_layers, scale):
                continue  # no exit would ever see it
            factor = self.growth_factors[scale]
            growth = self.growth_rate * factor
            more = {}
            if scale > finest_before:
                more['finer_channels'] = channels[scale - 1]
                more['finer_width'] = self.bottleneck_factors[scale - 1]
            if finest > finest_before:
                # Channels of all scales stay in the ratio of their growth factors.
                units = (channels[scale] + growth) // factor
                more['reduced'] = max(1, int(self.reduction * units)) * factor
            parts[str(scale)] = ScaleLayer(
                channels[scale],
                growth,
                self.bottleneck_factors[scale],
                norm_cfg=self.norm_cfg,
                **more,
            )
        return parts

    def _layers_until(self, number: int, scale: int) -> int:
        """Layers of a scale that the coarsest one's first ``number`` layers draw on.

        Each scale reads what the next finer one had a layer earlier.
        """
        return number - (self.num_scales - 1 - scale)

    def forward_stage(self, index: int, x: Tensor | dict[int, Tensor]):
        """Compute one stage, of each scale what its exit needs.

        Args:
            index (int): The stage, from 0.
            x (Tensor | dict[int, Tensor]): Images (N, C, H, W) for the first stage, what
                the stage before gave for others.

        Returns:
            dict[int, Tensor]: Features of the scales that later stages need, and of the
            coarsest, ``num_scales - 1``, those of this one.
        """
        maps = dict(x) if index else {}
        if index == 0:
            for scale, conv in enumerate(self.stem):
                x = maps[scale] = conv(x)
        start = self.stage_ends[index - 1] if index else 0
        for last in range(start + 1, self.stage_ends[index] + 1):
            for scale in sorted(maps):  # a finer one is a layer behind when it is read
                number = self._layers_until(last, scale)
                if number > 0:
                    layer = self.layers[number - 1][str(scale)]
                    maps[scale] = layer(maps[scale], maps.get(scale - 1))
            for scale in range(self.num_scales - 1):
                number = self._layers_until(last, scale)
                if self.finest_scale(number + 1) > scale:
                    maps.pop(scale, None)
        return maps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features of images.

        Args:
            x (Tensor): Images of shape (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: Features of the coarsest scale after the stages in
            ``out_indices``; later stages do not run.
        """
        outs = []
        for index in range(max(self.out_indices) + 1):
            x = self.forward_stage(index, x)
            if index in self.out_indices:
                outs.append(x[self.num_scales - 1])
        return tuple(outs)


@cut_into_stages.register
def _(backbone: MSDNet) -> list[Stage]:
    """A stage gives all the scales still needed; its features are the coarsest's."""
    coarsest = itemgetter(backbone.num_scales - 1)
    return [
        Stage(partial(backbone.forward_stage, index), width, backbone.stride, coarsest)
        for index, width in enumerate(backbone.stage_channels)
    ]
