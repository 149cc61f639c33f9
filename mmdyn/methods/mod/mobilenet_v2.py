"""Mixture-of-Depths MobileNetV2: Cakaj, Mehnert, Yang, 2024, Table 6.

MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler et al., CVPR 2018. Of the
blocks with a skip connection every second one works on a few selected channels.
"""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdyn.methods.mod.layer import MixtureOfDepths, check_mod_arguments
from mmdyn.models.backbone import Backbone, rename_modules
from mmdyn.models.stages import Stage, cut_into_stages
from mmdyn.models.stock_stages import mobilenet_stages
from mmdyn.operating_point import DynamicModule
from mmdyn.registry import MODELS
from mmdyn.utils.validation import (
    check_between,
    check_choice,
    check_out_indices,
)


class InvertedResidual(BaseModule):
    """1×1 expansion, 3×3 depthwise and 1×1 linear convolutions, and a skip connection.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the 3×3 convolution. With 1, and channels that stay, there
            is a skip connection.
        expand_ratio (int): Channels of the 3×3 convolution for one of the input; with 1
            there is no expansion.
        with_cp (bool): Recompute the block in the backward pass to save memory.
        **kwargs: Further arguments of each :class:`mmcv.cnn.ConvModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        expand_ratio: int = 6,
        with_cp: bool = False,
        **kwargs,
    ):
        super().__init__()
        self.with_cp = with_cp
        self.has_skip = stride == 1 and in_channels == out_channels
        self.conv = _inverted_residual_branch(
            in_channels, out_channels, stride, expand_ratio, **kwargs
        )

    def compute(self, x: Tensor) -> Tensor:
        """Compute the block for a feature map x (N, C, H, W)."""
        out = self.conv(x)
        if self.has_skip:
            out += x
        return out

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(self.compute, x, use_reentrant=False)
        return self.compute(x)


def _inverted_residual_branch(
    in_channels: int, out_channels: int, stride: int, expand_ratio: int, **kwargs
) -> nn.Sequential:
    width = in_channels * expand_ratio
    depthwise = dict(stride=stride, padding=1, groups=width)
    layers = [] if expand_ratio == 1 else [ConvModule(in_channels, width, 1, **kwargs)]
    layers.append(ConvModule(width, width, 3, **depthwise, **kwargs))
    layers.append(ConvModule(width, out_channels, 1, **{**kwargs, 'act_cfg': None}))
    return nn.Sequential(*layers)


class MoDInvertedResidual(InvertedResidual):
    """An inverted residual of the selected channels, added to the map.

    Args:
        channels (int): Channels of the input and the output.
        divisor (int): See :class:`MixtureOfDepths`, as the next two.
        fusion (str): Where the processed channels are added.
        reduction (int): How many times narrower the selector's hidden layer is.
        **kwargs: Further arguments of the narrow :class:`InvertedResidual`.
    """

    def __init__(
        self, channels: int, divisor: int, fusion: str, reduction: int, **kwargs
    ):
        mod = MixtureOfDepths(channels, divisor, fusion, reduction, relu=False)
        super().__init__(mod.num_selected, mod.num_selected, **kwargs)
        self.mod = mod

    def compute(self, x: Tensor) -> Tensor:
        return self.mod(x, self.conv)


@MODELS.register_module()
class MobileNetV2MoD(DynamicModule, Backbone):
    """MobileNetV2 in which blocks 1, 3, … of each layer are Mixture-of-Depths blocks.

    Its cost is lower than a MobileNetV2's, but not switchable: it has the one operating
    point ``dense``. Its arguments are those of mmpretrain's and mmdet's MobileNetV2;
    mmseg's, with strides and dilations, is not covered. Checkpoints of theirs and of
    torchvision's fill all but the MoD blocks of the base variant.

    Where gradients are off a MoD block changes the output of the block before it in
    place: a hook that keeps a block's output has to copy it. Outputs of layers stay.

    Args:
        variant (str): ``'base'``, the standard channels, or ``'large'``, those of
            MobileNetV2-MoD-L (Table 6).
        divisor (int | None): The paper's c: a MoD block processes 1 / c of its channels.
            ``None``: the channels of the first MoD block, which so processes one, as the
            paper's 64 makes it in a ResNet of basic blocks.
        fusion (str): Where a MoD block adds what it computed: to the ``'first'`` or
            ``'last'`` channels, or to the ``'original'`` places.
        reduction (int): How many times narrower a selector's hidden layer is.
        widen_factor (float): Multiplies the channels of every layer.
        out_indices (Sequence[int]): Layers, from 0, whose outputs :meth:`forward`
            returns; 7 is the last, the 1×1 convolution.
        frozen_stages (int): Train neither the first convolution nor this many layers
            behind it; -1 freezes nothing.
        conv_cfg (dict | None): Config of the convolutions.
        norm_cfg (dict): Config of the norms.
        act_cfg (dict): Config of the activations.
        norm_eval (bool): Keep BN statistics fixed in training.
        with_cp (bool): Recompute blocks in the backward pass to save memory.
        init_cfg (dict | list): Initialisation.

    Raises:
        ValueError: For an unknown variant or fusion, a divisor above the channels of the
            first MoD block (24 or 32 for a ``widen_factor`` of 1), or values below 1.
    """

    # Expansion, channels, blocks and stride of each layer.
    arch_settings: dict[str, tuple[tuple[int, int, int, int], ...]] = {
        'base': (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ),
        'large': (
            (1, 16, 1, 1),
            (6, 32, 2, 2),
            (6, 64, 3, 2),
            (6, 96, 4, 2),
            (6, 128, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ),
    }

    def __init__(
        self,
        variant: str = 'base',
        divisor: int | None = None,
        fusion: str = 'first',
        reduction: int = 16,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (7,),
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU6'),
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict | list | None = [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
        ],
    ):
        super().__init__(init_cfg)
        check_choice('variant', variant, tuple(self.arch_settings))
        if widen_factor <= 0:
            raise ValueError(f'widen_factor must be above 0, got {widen_factor!r}')
        check_between('frozen_stages', frozen_stages, -1, 7)
        self.variant = variant
        self.widen_factor = widen_factor
        self.settings = self.arch_settings[variant]
        first_mod = next(c for _, c, blocks, _ in self.settings if blocks > 1)
        limit = self._widened(first_mod)
        self.mod_arguments = check_mod_arguments(
            limit if divisor is None else divisor,
            fusion,
            reduction,
            limit,
            limiting='first MoD block',
        )
        self.out_indices = check_out_indices(out_indices, 7)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.conv_arguments = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)

        channels = self._widened(32)
        self.conv1 = ConvModule(
            3, channels, 3, stride=2, padding=1, **self.conv_arguments
        )
        self.layers = []
        for number, setting in enumerate(self.settings, start=1):
            self.add_module(f'layer{number}', self._make_layer(channels, *setting))
            self.layers.append(f'layer{number}')
            channels = self._widened(setting[1])
        self.feat_dim = int(1280 * max(1.0, widen_factor))
        self.conv2 = ConvModule(channels, self.feat_dim, 1, **self.conv_arguments)
        self.layers.append('conv2')
        self.freeze()

    def _widened(self, channels: int) -> int:
        """``channels * widen_factor`` as MobileNetV2 rounds it.

        To a multiple of 8, at least 8, and never down by more than a tenth.
        """
        exact = channels * self.widen_factor
        rounded = max(8, int(exact + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * exact else rounded + 8

    def _make_layer(
        self, in_channels: int, expand_ratio: int, channels: int, blocks: int, stride: int
    ) -> nn.Sequential:
        channels = self._widened(channels)
        arguments = dict(
            expand_ratio=expand_ratio, with_cp=self.with_cp, **self.conv_arguments
        )
        return nn.Sequential(
            InvertedResidual(in_channels, channels, stride, **arguments),
            *(
                MoDInvertedResidual(channels, **self.mod_arguments, **arguments)
                if index % 2
                else InvertedResidual(channels, channels, **arguments)
                for index in range(1, blocks)
            ),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features of images.

        Args:
            x (Tensor): Images of shape (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: Outputs of the layers in ``out_indices``.
        """
        x = self.conv1(x)
        outs = []
        for index, name in enumerate(self.layers):
            x = getattr(self, name)(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        names = self.layers[: self.frozen_stages]
        return [self.conv1, *(getattr(self, name) for name in names)]

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        """Rename torchvision's keys: it numbers all blocks in a row."""
        if f'{prefix}features.0.0.weight' not in state_dict:
            return
        layers = [  # conv and norm there, both here
            ('features.0.0', 'features.0.1', 'conv1'),
            ('features.18.0', 'features.18.1', 'conv2'),
        ]
        blocks = (
            (f'layer{number}.{index}', expand_ratio)
            for number, (expand_ratio, _, count, _) in enumerate(self.settings, start=1)
            for index in range(count)
        )
        for number, (block, expand_ratio) in enumerate(blocks, start=1):
            theirs, last = f'features.{number}.conv', 1 if expand_ratio == 1 else 2
            for i in range(last):
                layers.append((f'{theirs}.{i}.0', f'{theirs}.{i}.1', f'{block}.conv.{i}'))
            # The linear convolution is not nested: no activation follows.
            unnested = (f'{theirs}.{last}', f'{theirs}.{last + 1}')
            layers.append((*unnested, f'{block}.conv.{last}'))
        names = {}
        for conv, norm, ours in layers:
            names[prefix + conv] = f'{prefix}{ours}.conv'
            names[prefix + norm] = f'{prefix}{ours}.bn'
        rename_modules(state_dict, names)


@cut_into_stages.register
def _(backbone: MobileNetV2MoD) -> list[Stage]:
    return mobilenet_stages(backbone, backbone.settings)
