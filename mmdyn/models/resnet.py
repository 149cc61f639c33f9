"""The ResNet that every residual method of mmdyn is built on.

Deep Residual Learning for Image Recognition, He et al., CVPR 2016. It takes the
constructor arguments that mmpretrain, mmseg and mmdet configs give their ResNets and
keeps their state-dict keys, so stock configs and checkpoints work unchanged. Not here:
deformable convolutions, plugins, stochastic depth, multi-grid dilation.
"""

import re
from collections.abc import Sequence

from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import constant_init
from torch import Tensor, nn

from mmdyn.models.backbone import Backbone
from mmdyn.models.residual_block import BasicBlock, Bottleneck, ResidualBlock
from mmdyn.models.stages import Stage, cut_into_blocks, cut_into_stages
from mmdyn.models.stock_stages import residual_blocks, residual_stages
from mmdyn.registry import MODELS
from mmdyn.utils.validation import (
    check_between,
    check_choice,
    check_counts,
    check_out_indices,
    per_stage,
)


@MODELS.register_module()
class ResNet(Backbone):
    """ResNet for images (depths 18, 34, 50, 101, 152) and for CIFAR (6n+2, 8 to 110).

    The CIFAR depths have three stages of n basic blocks, 16 channels in the first; 50 is
    the bottleneck network, for either stem.

    Args:
        depth (int): Number of layers with weights.
        in_channels (int): Channels of the images.
        stem (str | None): ``'imagenet'`` (7×7 convolution of stride 2, max-pooling) or
            ``'cifar'`` (one 3×3 of stride 1). ``None``: what the depth was designed for.
        stem_channels (int | None): Channels after the stem. ``None``: 64, or 16 for a
            CIFAR depth.
        base_channels (int | None): Channels of the first stage's 3×3 convolutions.
            ``None``: as ``stem_channels``'s default.
        num_stages (int | None): Stages to build. ``None``: all of the depth's.
        strides (Sequence[int] | None): Stride of each stage. ``None``: 1, then 2.
        dilations (Sequence[int] | None): Dilation of each stage. ``None``: 1.
        contract_dilation (bool): Halve the dilation of the first block of a dilated
            stage, as mmseg's networks do.
        out_indices (Sequence[int] | None): Stages, from 0, whose outputs
            :meth:`forward` returns. ``None``: the last.
        style (str): ``'pytorch'`` or ``'caffe'``; see :class:`ResidualBlock`.
        deep_stem (bool): Three 3×3 convolutions for the 7×7 one (ResNet-V1c).
        avg_down (bool): Average-pool before the skip connection's 1×1 convolution, which
            then has stride 1 (ResNet-V1d).
        frozen_stages (int): Train neither the stem nor this many first stages; -1
            freezes nothing.
        conv_cfg (dict | None): Config of the convolutions.
        norm_cfg (dict): Config of the norms.
        norm_eval (bool): Keep BN statistics fixed in training.
        with_cp (bool): Recompute branches in the backward pass to save memory.
        zero_init_residual (bool): Start each block as the identity.
        pretrained (str | None): Checkpoint to start from, the older form of
            ``init_cfg=dict(type='Pretrained', checkpoint=…)``.
        init_cfg (dict | list | None): Initialisation; ``None``: Kaiming.

    Raises:
        ValueError: For a depth, stage number or style that does not exist, or settings
            that contradict one another.
    """

    arch_settings: dict[int, tuple[type[ResidualBlock], tuple[int, ...]]] = {
        18: (BasicBlock, (2, 2, 2, 2)),
        34: (BasicBlock, (3, 4, 6, 3)),
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }
    cifar_depths: tuple[int, ...] = tuple(d for d in range(8, 111, 6) if d != 50)

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem: str | None = None,
        stem_channels: int | None = None,
        base_channels: int | None = None,
        num_stages: int | None = None,
        strides: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        contract_dilation: bool = False,
        out_indices: Sequence[int] | None = None,
        style: str = 'pytorch',
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(_initialisation(pretrained, init_cfg))
        block, blocks, is_cifar = self._architecture(depth)
        num_stages = len(blocks) if num_stages is None else num_stages
        check_between('num_stages', num_stages, 1, len(blocks))
        stem = stem or ('cifar' if is_cifar else 'imagenet')
        check_choice('stem', stem, ('imagenet', 'cifar'))
        check_choice('style', style, ('pytorch', 'caffe'))
        check_between('frozen_stages', frozen_stages, -1, num_stages)
        if deep_stem and stem == 'cifar':
            raise ValueError("deep_stem=True needs stem='imagenet', got stem='cifar'")
        default_channels = 16 if is_cifar else 64
        if stem_channels is None:
            stem_channels = default_channels
        if base_channels is None:
            base_channels = default_channels
        check_counts(
            in_channels=in_channels,
            stem_channels=stem_channels,
            base_channels=base_channels,
        )

        self.depth = depth
        self.stem_type = stem
        self.stem_channels = stem_channels
        self.base_channels = base_channels
        self.num_stages = num_stages
        self.strides = per_stage('strides', strides, (1, 2, 2, 2), num_stages)
        self.dilations = per_stage('dilations', dilations, (1, 1, 1, 1), num_stages)
        self.contract_dilation = contract_dilation
        self.out_indices = check_out_indices(out_indices, last=num_stages - 1)
        self.style = style
        self.deep_stem = deep_stem
        self.avg_down = avg_down
        self.frozen_stages = frozen_stages
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.zero_init_residual = zero_init_residual
        self.block = block
        self.stage_blocks = blocks[:num_stages]

        self._make_stem(in_channels)
        self.res_layers = []
        channels = self.stem_channels
        for stage, num_blocks in enumerate(self.stage_blocks):
            layer = self._make_stage(stage, num_blocks, channels)
            channels = layer[-1].out_channels
            name = f'layer{stage + 1}'
            self.add_module(name, layer)
            self.res_layers.append(name)
        self.feat_dim = channels
        self.freeze()

    @classmethod
    def _architecture(
        cls, depth: int
    ) -> tuple[type[ResidualBlock], tuple[int, ...], bool]:
        """Block, blocks of each stage, and whether the depth is one of CIFAR's."""
        if depth in cls.arch_settings:
            return *cls.arch_settings[depth], False
        if depth in cls.cifar_depths:
            return BasicBlock, ((depth - 2) // 6,) * 3, True
        valid = sorted({*cls.arch_settings, *cls.cifar_depths})
        raise ValueError(f'{cls.__name__} has no depth {depth!r}; valid ones: {valid}')

    @property
    def norm1(self) -> nn.Module:
        return getattr(self, self.norm1_name)

    def _make_stem(self, in_channels: int) -> None:
        if self.deep_stem:
            half = self.stem_channels // 2
            self.stem = nn.Sequential(
                *self._conv_norm_relu(in_channels, half, 2),
                *self._conv_norm_relu(half, half, 1),
                *self._conv_norm_relu(half, self.stem_channels, 1),
            )
        else:
            kernel, stride = (7, 2) if self.stem_type == 'imagenet' else (3, 1)
            self.conv1 = self._conv(in_channels, self.stem_channels, kernel, stride)
            self.norm1_name, norm1 = build_norm_layer(
                self.norm_cfg, self.stem_channels, postfix=1
            )
            self.add_module(self.norm1_name, norm1)
            self.relu = nn.ReLU(inplace=True)
        if self.stem_type == 'imagenet':
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def _conv(self, in_channels: int, out_channels: int, kernel: int, stride: int):
        return build_conv_layer(
            self.conv_cfg,
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2,
            bias=False,
        )

    def _conv_norm_relu(self, in_channels: int, out_channels: int, stride: int):
        conv = self._conv(in_channels, out_channels, 3, stride)
        norm = build_norm_layer(self.norm_cfg, out_channels)[1]
        return conv, norm, nn.ReLU(inplace=True)

    def _make_stage(self, stage: int, num_blocks: int, in_channels: int) -> nn.Sequential:
        planes = self.base_channels * 2**stage
        stride, dilation = self.strides[stage], self.dilations[stage]
        contracted = dilation > 1 and self.contract_dilation
        blocks = []
        for index in range(num_blocks):
            first = index == 0
            downsample = self._make_downsample(
                in_channels, planes, stride if first else 1
            )
            block = self.make_block(
                index,
                in_channels=in_channels,
                planes=planes,
                stride=stride if first else 1,
                dilation=dilation // 2 if first and contracted else dilation,
                downsample=downsample,
                style=self.style,
                with_cp=self.with_cp,
                conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg,
            )
            in_channels = block.out_channels
            blocks.append(block)
        return nn.Sequential(*blocks)

    def make_block(self, index: int, **kwargs) -> nn.Module:
        """Build one block of a stage; methods that change some blocks override this.

        Args:
            index (int): Place of the block in its stage, from 0.
            **kwargs: Arguments of :class:`ResidualBlock`.
        """
        return self.block(**kwargs)

    def _make_downsample(
        self, in_channels: int, planes: int, stride: int
    ) -> nn.Module | None:
        out_channels = planes * self.block.expansion
        if stride == 1 and in_channels == out_channels:
            return None
        layers = []
        if self.avg_down:
            layers.append(
                nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
            )
            stride = 1
        conv = self._conv(in_channels, out_channels, 1, stride)
        norm = build_norm_layer(self.norm_cfg, out_channels)[1]
        return nn.Sequential(*layers, conv, norm)

    def forward_stem(self, x: Tensor) -> Tensor:
        """Compute what the first stage takes from images x (N, C, H, W)."""
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        return self.maxpool(x) if self.stem_type == 'imagenet' else x

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features of images.

        Args:
            x (Tensor): Images of shape (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: Outputs of the stages in ``out_indices``.
        """
        x = self.forward_stem(x)
        outs = []
        for stage, name in enumerate(self.res_layers):
            x = getattr(self, name)(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def init_weights(self) -> None:
        first_time = not self.is_init
        super().init_weights()
        if first_time and not self._starts_pretrained():
            self.init_residuals()

    def _starts_pretrained(self) -> bool:
        return isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'

    def init_residuals(self) -> None:
        """What follows the initialisation of single layers, but no checkpoint."""
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    constant_init(module.last_norm, 0)

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        stem = [self.stem] if self.deep_stem else [self.conv1, self.norm1]
        return stem + [
            getattr(self, name) for name in self.res_layers[: self.frozen_stages]
        ]

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        _rename_deep_stem(state_dict, prefix)
        if self.avg_down:
            _make_room_for_pools(state_dict, prefix)


def _rename_deep_stem(state_dict: dict, prefix: str) -> None:
    """mmpretrain's nests each convolution: ``stem.1.conv`` for ``stem.3``."""
    nested = re.compile(rf'{re.escape(prefix)}stem\.(\d)\.(conv|bn)\.(.+)')
    for key in list(state_dict):
        if match := nested.fullmatch(key):
            index = 3 * int(match[1]) + (match[2] == 'bn')
            state_dict[f'{prefix}stem.{index}.{match[3]}'] = state_dict.pop(key)


def _make_room_for_pools(state_dict: dict, prefix: str) -> None:
    """mmpretrain leaves out pools of stride 1: ``downsample.0`` for ``downsample.1``."""
    unpooled = re.compile(rf'({re.escape(prefix)}layer.+\.downsample\.)([01])\.(.+)')
    starts = {m[1] for k in state_dict if (m := unpooled.fullmatch(k)) and m[2] == '0'}
    moved = [k for k in state_dict if any(k.startswith(start) for start in starts)]
    values = {k: state_dict.pop(k) for k in moved}
    for key, value in values.items():
        match = unpooled.fullmatch(key)
        state_dict[f'{match[1]}{int(match[2]) + 1}.{match[3]}'] = value


def _initialisation(pretrained: str | None, init_cfg):
    if pretrained is not None:
        if init_cfg is not None:
            raise ValueError('give either pretrained or init_cfg, not both')
        return dict(type='Pretrained', checkpoint=pretrained)
    if init_cfg is not None:
        return init_cfg
    return [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
    ]


@cut_into_stages.register
def _(backbone: ResNet) -> list[Stage]:
    return residual_stages(backbone, backbone.forward_stem)


@cut_into_blocks.register
def _(backbone: ResNet) -> list[Stage]:
    return residual_blocks(backbone, backbone.forward_stem)
