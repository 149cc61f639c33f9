"""Multi-Scale Dense Networks for Resource Efficient Image Classification, Huang et al.,
ICLR 2018: a backbone made for exits, which keeps coarse maps from its first layer on.

With the paper's lazy evaluation: a layer of a finer scale is computed only when an exit
needs it, so early exits cost less than if each layer were computed at all scales.

Not here: the paper's own classifiers, and networks without bottlenecks.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from operator import itemgetter

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdyn.models.backbone import StackOfStages
from mmdyn.models.stages import Stage, cut_into_stages
from mmdyn.models.zoo.msdnet_layers import Layout
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_choice, check_counts


@MODELS.register_module()
class MSDNet(StackOfStages):
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
        step (int): Layers of each further stage, or how many more than the one before.
        step_mode (str): ``'even'`` or, for the latter, ``'lin_grow'``.
        stem (str): ``'imagenet'`` (7×7 convolution of stride 2, max-pooling) or
            ``'cifar'`` (one 3×3 of stride 1) before the finest scale.
        stem_channels (int | None): Channels after the stem at a scale of growth factor 1;
            by default 32, for CIFAR 16.
        growth_rate (int | None): Channels that a layer adds there, even; by default 16,
            for CIFAR 6.
        growth_factors (Sequence[int] | None): Multiples of both at each scale, from the
            finest; by default 1, 2, 4, 4, for CIFAR 1, 2, 4.
        bottleneck_factors (Sequence[int] | None): For each scale, channels of a 1×1
            convolution for one of the 3×3 behind it; by default ``growth_factors``.
        reduction (float): Share of the channels that a transition keeps.
        in_channels (int): Channels of the images.
        norm_cfg (dict): Config of the norms.
        **kwargs: Further arguments of :class:`StackOfStages`.

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
        norm_cfg: dict = dict(type='BN'),
        **kwargs,
    ):
        check_choice('stem', stem, tuple(self.stem_settings))
        check_choice('step_mode', step_mode, ('even', 'lin_grow'))
        given = (stem_channels, growth_rate, growth_factors)
        stem_channels, growth_rate, growth_factors = (
            default if value is None else value
            for value, default in zip(given, self.stem_settings[stem])
        )
        if bottleneck_factors is None:
            bottleneck_factors = growth_factors
        check_counts(num_blocks=num_blocks, base=base, step=step, in_channels=in_channels)
        check_counts(stem_channels=stem_channels, growth_rate=growth_rate)
        check_counts(growth_factors=growth_factors, bottleneck_factors=bottleneck_factors)
        super().__init__(num_blocks, **kwargs)
        even = step_mode == 'even'
        more = (step if even else base + step * i for i in range(1, num_blocks))
        self.stage_ends = list(accumulate([base, *more]))
        self.layout = Layout(
            self.stage_ends, growth_rate, growth_factors, bottleneck_factors, reduction
        )
        self.num_scales = len(growth_factors)
        self.stride = (4 if stem == 'imagenet' else 1) * 2 ** (self.num_scales - 1)

        channels = [stem_channels * factor for factor in growth_factors]
        self.stem = _make_stem(stem, in_channels, channels, norm_cfg)
        self.layers = nn.ModuleList()
        coarsest = []
        for number in range(1, self.layout.num_layers + 1):
            layer = self.layout.make_layer(number, channels, norm_cfg)
            self.layers.append(layer)
            for scale, part in layer.items():
                channels[int(scale)] = part.out_channels
            coarsest.append(channels[-1])
        self.stage_channels = [coarsest[end - 1] for end in self.stage_ends]
        self.feat_dim = channels[-1]
        self.freeze()

    @property
    def stage_modules(self) -> list[nn.ModuleList]:
        starts = [0, *self.stage_ends]
        return [self.layers[a:b] for a, b in zip(starts, self.stage_ends)]

    def forward_stage(self, index: int, x: Tensor | dict[int, Tensor]):
        """Compute one stage, of each scale what its exit needs.

        It maps images (N, C, H, W), behind the first stage the result of the one before,
        to a dict of the features of the coarsest scale and those that later stages need.
        """
        maps = dict(x) if index else {}
        if index == 0:
            for scale, conv in enumerate(self.stem):
                x = maps[scale] = conv(x)
        start = self.stage_ends[index - 1] if index else 0
        for last in range(start + 1, self.stage_ends[index] + 1):
            for scale in sorted(maps):  # a finer one is a layer behind when it is read
                number = self.layout.layers_until(last, scale)
                if number > 0:
                    layer = self.layers[number - 1][str(scale)]
                    maps[scale] = layer(maps[scale], maps.get(scale - 1))
            for scale in range(self.num_scales - 1):
                number = self.layout.layers_until(last, scale)
                if self.layout.finest_scale(number + 1) > scale:
                    maps.pop(scale, None)
        return maps

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Coarsest features of the stages in ``out_indices``, of images (N, C, H, W)."""
        outs = []
        for index in range(max(self.out_indices) + 1):
            x = self.forward_stage(index, x)
            if index in self.out_indices:
                outs.append(x[self.num_scales - 1])
        return tuple(outs)


def _make_stem(
    kind: str, in_channels: int, channels: Sequence[int], norm_cfg: dict
) -> nn.ModuleList:
    """Convolutions from images to the finest scale, and from each scale to the next."""
    if kind == 'cifar':
        stem = ConvModule(in_channels, channels[0], 3, padding=1, norm_cfg=norm_cfg)
    else:
        conv = dict(kernel_size=7, stride=2, padding=3, norm_cfg=norm_cfg)
        conv = ConvModule(in_channels, channels[0], **conv)
        stem = nn.Sequential(conv, nn.MaxPool2d(3, stride=2, padding=1))
    halving = dict(kernel_size=3, stride=2, padding=1, norm_cfg=norm_cfg)
    pairs = zip(channels, channels[1:])
    return nn.ModuleList([stem, *(ConvModule(*pair, **halving) for pair in pairs)])


@cut_into_stages.register
def _(backbone: MSDNet) -> list[Stage]:
    """A stage gives all the scales still needed; its features are the coarsest's."""
    coarsest = itemgetter(backbone.num_scales - 1)
    return [
        Stage(partial(backbone.forward_stage, index), width, backbone.stride, coarsest)
        for index, width in enumerate(backbone.stage_channels)
    ]
