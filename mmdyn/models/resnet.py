"""The ResNet that every residual method of mmdyn is built on.

Deep Residual Learning for Image Recognition, He et al., CVPR 2016. It takes the
constructor arguments that mmpretrain, mmseg and mmdet configs give their ResNets and
keeps their state-dict keys, so stock configs and checkpoints work unchanged. Not here:
deformable convolutions, plugins, stochastic depth, multi-grid dilation.
"""

from collections.abc import Sequence

from mmengine.model import constant_init
from torch import nn

from mmdyn.models.backbone import KAIMING, StackOfStages, rename_modules
from mmdyn.models.residual_block import BasicBlock, Bottleneck, ResidualBlock
from mmdyn.models.resnet_parts import make_downsample, make_stem
from mmdyn.models.stages import cut_into_blocks, cut_into_stages
from mmdyn.models.stock_stages import residual_blocks, residual_stages
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_between, check_choice, check_counts, per_stage


@MODELS.register_module()
class ResNet(StackOfStages):
    """ResNet for images (depths 18, 34, 50, 101, 152) and for CIFAR (6n+2, 8 to 110).

    A CIFAR depth has three stages of n basic blocks, 16 channels in the first; 50 is the
    bottleneck network with either stem.

    Args:
        depth (int): Number of layers with weights.
        in_channels (int): Channels of the images.
        stem (str | None): ``'imagenet'`` (7×7 convolution of stride 2, max-pooling) or
            ``'cifar'`` (one 3×3 of stride 1). ``None``: that of the depth.
        stem_channels (int | None): Channels after the stem. ``None``: 64, for CIFAR 16.
        base_channels (int | None): Channels of the first stage's 3×3 convolutions, with
            the same default.
        num_stages (int | None): Stages to build. ``None``: all of the depth's.
        strides, dilations (Sequence[int] | None): Those of each stage. ``None``: strides
            of 1, 2, 2, 2 and dilations of 1.
        contract_dilation (bool): Halve the dilation of a stage's first block, as mmseg.
        style, with_cp, conv_cfg, norm_cfg: See :class:`ResidualBlock`.
        deep_stem (bool): Three 3×3 convolutions for the 7×7 one (ResNet-V1c).
        avg_down (bool): Average-pool before a projection of stride 1 (ResNet-V1d).
        zero_init_residual (bool): Start each block as the identity.
        pretrained (str | None): Checkpoint to start from, the older form of
            ``init_cfg=dict(type='Pretrained', checkpoint=…)``.
        init_cfg (dict | list | None): Initialisation; ``None``: Kaiming.
        **kwargs: Further arguments of :class:`StackOfStages`.

    Raises:
        ValueError: For settings that do not exist or contradict one another.
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
        style: str = 'pytorch',
        deep_stem: bool = False,
        avg_down: bool = False,
        conv_cfg: dict | None = None,
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        with_cp: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
        init_cfg: dict | list | None = None,
        **kwargs,
    ):
        block, blocks = _architecture(type(self), depth)
        is_cifar = depth in self.cifar_depths
        num_stages = len(blocks) if num_stages is None else num_stages
        check_between('num_stages', num_stages, 1, len(blocks))
        init_cfg = _initialisation(pretrained, init_cfg)
        super().__init__(num_stages, init_cfg=init_cfg, **kwargs)
        stem = stem or ('cifar' if is_cifar else 'imagenet')
        default_channels = 16 if is_cifar else 64
        stem_channels = default_channels if stem_channels is None else stem_channels
        base_channels = default_channels if base_channels is None else base_channels
        check_choice('stem', stem, ('imagenet', 'cifar'))
        check_choice('style', style, ('pytorch', 'caffe'))
        check_counts(in_channels=in_channels, stem_channels=stem_channels)
        check_counts(base_channels=base_channels)
        if deep_stem and stem == 'cifar':
            raise ValueError("deep_stem=True needs stem='imagenet', got stem='cifar'")

        self.depth = depth
        self.strides = per_stage('strides', strides, (1, 2, 2, 2), num_stages)
        self.dilations = per_stage('dilations', dilations, (1, 1, 1, 1), num_stages)
        self.contract_dilation = contract_dilation
        self.avg_down = avg_down
        self.zero_init_residual = zero_init_residual
        self.block = block
        self.stage_blocks = blocks[:num_stages]
        self.conv_arguments = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        self.block_arguments = dict(style=style, with_cp=with_cp, **self.conv_arguments)

        parts = make_stem(
            stem, deep_stem, in_channels, stem_channels, **self.conv_arguments
        )
        for name, module in parts.items():
            self.add_module(name, module)
        self.stem_names = list(parts)
        self.res_layers = []
        self.feat_dim = stem_channels
        for stage in range(num_stages):
            layer = self._make_stage(stage, self.feat_dim, base_channels * 2**stage)
            self.feat_dim = layer[-1].out_channels
            self.res_layers.append(f'layer{stage + 1}')
            self.add_module(self.res_layers[-1], layer)
        self.freeze()

    @property
    def stage_modules(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.res_layers]

    def _make_stage(self, stage: int, in_channels: int, planes: int) -> nn.Sequential:
        dilation = self.dilations[stage]
        contracted = dilation > 1 and self.contract_dilation
        blocks = []
        for index in range(self.stage_blocks[stage]):
            stride = 1 if index else self.strides[stage]
            block = self.make_block(
                index,
                in_channels=in_channels,
                planes=planes,
                stride=stride,
                dilation=dilation // 2 if contracted and index == 0 else dilation,
                downsample=make_downsample(
                    in_channels,
                    planes * self.block.expansion,
                    stride,
                    self.avg_down,
                    **self.conv_arguments,
                ),
                **self.block_arguments,
            )
            in_channels = block.out_channels
            blocks.append(block)
        return nn.Sequential(*blocks)

    def make_block(self, index: int, **kwargs) -> nn.Module:
        """Build block ``index``, from 0, of a stage; methods that change it override."""
        return self.block(**kwargs)

    def init_weights(self) -> None:
        initialised = self.is_init or _is_pretrained(self.init_cfg)
        super().init_weights()
        if not initialised:
            self.init_residuals()

    def init_residuals(self) -> None:
        """Initialise whole blocks, unless a checkpoint is loaded."""
        if self.zero_init_residual:
            for module in self.modules():
                if isinstance(module, ResidualBlock):
                    constant_init(module.last_norm, 0)

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        rename_modules(state_dict, _stock_names(self, state_dict, prefix))


def _architecture(cls: type[ResNet], depth: int) -> tuple[type, tuple[int, ...]]:
    """Block and number of blocks of each stage."""
    depths = {d: (BasicBlock, ((d - 2) // 6,) * 3) for d in cls.cifar_depths}
    depths |= cls.arch_settings
    if depth not in depths:
        raise ValueError(
            f'{cls.__name__} has no depth {depth!r}; valid ones: {sorted(depths)}'
        )
    return depths[depth]


def _initialisation(pretrained: str | None, init_cfg: dict | list | None):
    if pretrained is None:
        return KAIMING if init_cfg is None else init_cfg
    if init_cfg is not None:
        raise ValueError('give either pretrained or init_cfg, not both')
    return dict(type='Pretrained', checkpoint=pretrained)


def _is_pretrained(init_cfg: dict | list) -> bool:
    return isinstance(init_cfg, dict) and init_cfg['type'] == 'Pretrained'


def _stock_names(backbone: ResNet, state_dict: dict, prefix: str) -> dict[str, str]:
    """Our names of modules that mmpretrain names otherwise."""
    # It nests the convolutions of a deep stem: stem.1.conv for stem.3.
    names = {
        f'{prefix}stem.{index}.{part}': f'{prefix}stem.{3 * index + (part == "bn")}'
        for index in range(3)
        for part in ('conv', 'bn')
    }
    # It leaves out pools of stride 1: downsample.0 for downsample.1.
    for name, module in backbone.named_modules():
        start = f'{prefix}{name}'
        has_pool = name.endswith('.downsample') and len(module) == 3
        if has_pool and f'{start}.0.weight' in state_dict:
            names |= {f'{start}.{i}': f'{start}.{i + 1}' for i in (0, 1)}
    return names


cut_into_stages.register(ResNet)(residual_stages)
cut_into_blocks.register(ResNet)(residual_blocks)
