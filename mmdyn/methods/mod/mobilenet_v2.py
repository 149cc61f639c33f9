"""Mixture-of-Depths MobileNetV2: Cakaj, Mehnert, Yang, 2024, Table 6.

MobileNetV2: Inverted Residuals and Linear Bottlenecks, Sandler et al., CVPR 2018. Of the
blocks with a skip connection every second one works on a few selected channels.
"""

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdyn.methods.mod.layer import MixtureOfDepths, check_mod_arguments
from mmdyn.models.backbone import StackOfStages, rename_numbered_layers
from mmdyn.models.stages import cut_into_stages
from mmdyn.models.stock_stages import mobilenet_stages
from mmdyn.operating_point import DynamicModule
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_choice


class InvertedResidual(BaseModule):
    """1×1 expansion, 3×3 depthwise and 1×1 linear convolutions, and a skip connection.

    Args:
        in_channels, out_channels (int): Channels of the input and the output.
        stride (int): Of the 3×3 convolution. With 1, and channels that stay, there is a
            skip connection.
        expand_ratio (int): Channels of the 3×3 convolution for one of the input.
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
        width = in_channels * expand_ratio
        depthwise = dict(stride=stride, padding=1, groups=width)
        layers = []
        if expand_ratio > 1:
            layers.append(ConvModule(in_channels, width, 1, **kwargs))
        layers.append(ConvModule(width, width, 3, **depthwise, **kwargs))
        layers.append(ConvModule(width, out_channels, 1, **{**kwargs, 'act_cfg': None}))
        self.conv = nn.Sequential(*layers)

    def compute(self, x: Tensor) -> Tensor:
        """The block, for a feature map x (N, C, H, W)."""
        out = self.conv(x)
        if self.has_skip:
            out += x
        return out

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            return checkpoint(self.compute, x, use_reentrant=False)
        return self.compute(x)


class MoDInvertedResidual(InvertedResidual):
    """An inverted residual of the selected channels, added to the map.

    Args:
        channels (int): Channels of the input and the output.
        divisor, fusion, reduction: See :class:`MixtureOfDepths`.
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
class MobileNetV2MoD(DynamicModule, StackOfStages):
    """MobileNetV2 in which blocks 1, 3, … of each layer are Mixture-of-Depths blocks.

    Its cost is lower than a MobileNetV2's, but not switchable: it has the one operating
    point ``dense``. Its arguments are those of mmpretrain's and mmdet's MobileNetV2;
    mmseg's, with strides and dilations, is not covered. Checkpoints of theirs and of
    torchvision's fill all but the MoD blocks of the base variant.

    Without gradients a MoD block changes the output of the block before it in place: a
    hook that keeps a block's output has to copy it. Outputs of layers stay.

    Args:
        variant (str): ``'base'``, the standard channels, or ``'large'``, those of
            MobileNetV2-MoD-L (Table 6).
        divisor (int | None): The paper's c: a MoD block processes 1 / c of its channels.
            ``None``: the channels of the first MoD block, which then processes one, as
            with the paper's 64 in a ResNet of basic blocks.
        fusion, reduction: See :class:`MixtureOfDepths`.
        widen_factor (float): Multiplies the channels of every layer.
        conv_cfg, norm_cfg, act_cfg (dict): Configs of convolutions, norms, activations.
        with_cp (bool): Recompute blocks in the backward pass to save memory.
        **kwargs: Further arguments of :class:`StackOfStages`. The stages are the seven
            layers; in ``out_indices`` 7 is the 1×1 convolution behind them.

    Raises:
        ValueError: For an unknown variant or fusion, a divisor above the channels of the
            first MoD block (24 or 32 for a ``widen_factor`` of 1), or values below 1.
    """

    # Expansion, blocks and stride of each layer; channels of each in both variants.
    arch_settings = (
        (1, 1, 1),
        (6, 2, 2),
        (6, 3, 2),
        (6, 4, 2),
        (6, 3, 1),
        (6, 3, 2),
        (6, 1, 1),
    )
    variants = {
        'base': (16, 24, 32, 64, 96, 160, 320),
        'large': (16, 32, 64, 96, 128, 160, 320),
    }

    stem_names = ('conv1',)

    def __init__(
        self,
        variant: str = 'base',
        divisor: int | None = None,
        fusion: str = 'first',
        reduction: int = 16,
        widen_factor: float = 1.0,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN'),
        act_cfg: dict = dict(type='ReLU6'),
        with_cp: bool = False,
        **kwargs,
    ):
        super().__init__(num_stages=7, num_outputs=8, **kwargs)
        check_choice('variant', variant, tuple(self.variants))
        if widen_factor <= 0:
            raise ValueError(f'widen_factor must be above 0, got {widen_factor!r}')
        widths = [_widened(c, widen_factor) for c in self.variants[variant]]
        limit = widths[1]  # the first layer has no second block
        divisor = limit if divisor is None else divisor
        self.mod_arguments = check_mod_arguments(
            divisor, fusion, reduction, limit, limiting='first MoD block'
        )
        conv_arguments = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.block_arguments = dict(with_cp=with_cp, **conv_arguments)

        channels = _widened(32, widen_factor)
        self.conv1 = ConvModule(3, channels, 3, stride=2, padding=1, **conv_arguments)
        self.layers = []
        for width, setting in zip(widths, self.arch_settings):
            self.layers.append(f'layer{len(self.layers) + 1}')
            layer = self._make_layer(channels, width, *setting)
            self.add_module(self.layers[-1], layer)
            channels = width
        self.feat_dim = int(1280 * max(1.0, widen_factor))
        self.conv2 = ConvModule(channels, self.feat_dim, 1, **conv_arguments)
        self.layers.append('conv2')
        self.freeze()

    def _make_layer(
        self, in_channels: int, channels: int, expand_ratio: int, blocks: int, stride: int
    ) -> nn.Sequential:
        arguments = dict(expand_ratio=expand_ratio, **self.block_arguments)
        return nn.Sequential(
            InvertedResidual(in_channels, channels, stride, **arguments),
            *(
                MoDInvertedResidual(channels, **self.mod_arguments, **arguments)
                if index % 2
                else InvertedResidual(channels, channels, **arguments)
                for index in range(1, blocks)
            ),
        )

    @property
    def stage_modules(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.layers]

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        """Rename torchvision's keys: it numbers all blocks in a row."""
        if f'{prefix}features.0.0.weight' in state_dict:
            convs = (n for n, m in self.named_modules() if isinstance(m, ConvModule))
            layers = [f'{prefix}{name}' for name in convs]
            rename_numbered_layers(state_dict, f'{prefix}features.', layers)


def _widened(channels: int, factor: float) -> int:
    """Their product, rounded to a multiple of 8 and never down by more than a tenth."""
    exact = channels * factor
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * exact else rounded + 8


cut_into_stages.register(MobileNetV2MoD)(mobilenet_stages)
