"""Mixture-of-Depths VGG: CNN Mixture-of-Depths, Cakaj, Mehnert, Yang, 2024, Table 11.

VGG has no residual blocks: its convolutions 1, 3, … of each stage, counted from 0, keep
the shape and become Mixture-of-Depths convolutions.
"""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule, Sequential
from torch import Tensor, nn

from mmdyn.methods.mod.layer import MixtureOfDepths, check_mod_arguments
from mmdyn.models.backbone import StackOfStages, rename_numbered_layers
from mmdyn.models.stages import chain, cut_into_stages
from mmdyn.models.stock_stages import vgg_stages
from mmdyn.operating_point import DynamicModule
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_between, check_choice, check_counts, per_stage


class MoDConv(BaseModule):
    """A 3×3 convolution and norm of the selected channels, added to the map, and a ReLU.

    Args:
        channels (int): Channels of the input and the output.
        divisor, fusion, reduction: See :class:`MixtureOfDepths`.
        **kwargs: Further arguments of the narrow :class:`mmcv.cnn.ConvModule`.
    """

    def __init__(
        self, channels: int, divisor: int, fusion: str, reduction: int, **kwargs
    ):
        super().__init__()
        self.mod = MixtureOfDepths(channels, divisor, fusion, reduction)
        k = self.mod.num_selected
        self.narrow = ConvModule(k, k, 3, act_cfg=None, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """The block, for a feature map x (N, C, H, W), the output of a ReLU."""
        return self.mod(x, self.narrow)


@MODELS.register_module()
class VGGMoD(DynamicModule, StackOfStages):
    """VGG in which convolutions 1, 3, … of each stage are Mixture-of-Depths ones.

    Its cost is lower than a VGG's, but not switchable: it has the one operating point
    ``dense``. Checkpoints of mmpretrain's and torchvision's VGG fill all but the MoD
    convolutions. On CIFAR the paper's classifier is mmpretrain's ``StackedLinearClsHead``
    with ``mid_channels=[512, 512]``, behind ``GlobalAveragePooling``. The paper's VGGs
    have batch norms, so ours do by default; a stock VGG without them becomes one of ours
    with ``norm_cfg=None``.

    Without gradients a MoD convolution changes the output of the one before it in place:
    a hook that keeps it has to copy it. Outputs of stages stay.

    Args:
        depth (int): Number of layers with weights, three linear ones included: 16 or 19.
        divisor (int): The paper's c: a MoD convolution processes 1 / c of its channels.
        fusion, reduction: See :class:`MixtureOfDepths`.
        num_classes (int): Above 0: end in VGG's own classifier for images of 224×224
            (two linear layers of 4,096, dropout 0.5), as mmpretrain's configs ask for;
            -1: end in feature maps.
        num_stages (int): Stages to build, 1…5.
        dilations (Sequence[int] | None): Dilation of each stage. ``None``: 1.
        conv_cfg (dict | None): Config of the convolutions.
        norm_cfg (dict | None): Config of the norms; ``None``: no norms.
        ceil_mode (bool): Round sizes up when pooling.
        with_last_pool (bool): Whether the last stage pools.
        **kwargs: Further arguments of :class:`StackOfStages`; in ``out_indices``
            ``num_stages`` is the classifier.

    Raises:
        ValueError: For an unknown depth or fusion, a divisor outside 1…64 (64: the
            channels of the first block), a stage number that does not exist, or a
            classifier behind anything but all five stages and their pools.
    """

    arch_settings: dict[int, tuple[int, ...]] = {
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }
    channels = (64, 128, 256, 512, 512)
    stem_names = ()

    def __init__(
        self,
        depth: int,
        divisor: int = 64,
        fusion: str = 'first',
        reduction: int = 16,
        num_classes: int = -1,
        num_stages: int = 5,
        dilations: Sequence[int] | None = None,
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = dict(type='BN'),
        ceil_mode: bool = False,
        with_last_pool: bool = True,
        **kwargs,
    ):
        check_choice('depth', depth, tuple(self.arch_settings))
        check_between('num_stages', num_stages, 1, 5)
        has_classifier = num_classes != -1
        super().__init__(num_stages, num_outputs=num_stages + has_classifier, **kwargs)
        limit = self.channels[0]
        self.mod_arguments = check_mod_arguments(divisor, fusion, reduction, limit)
        if has_classifier:
            check_counts(num_classes=num_classes)
            if num_stages < 5 or not with_last_pool:
                raise ValueError(
                    f'num_classes={num_classes} needs num_stages=5 and with_last_pool='
                    f'True, got {num_stages} and {with_last_pool}'
                )
        self.depth = depth
        self.dilations = per_stage('dilations', dilations, (1,) * 5, num_stages)
        self.conv_arguments = dict(bias=True, conv_cfg=conv_cfg, norm_cfg=norm_cfg)

        layers, self.range_sub_modules = [], []  # the stock name of the stages' bounds
        for stage in range(num_stages):
            start = len(layers)
            layers += self._make_stage(stage)
            if stage < num_stages - 1 or with_last_pool:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
            self.range_sub_modules.append((start, len(layers)))
        self.features = nn.Sequential(*layers)
        if has_classifier:
            self.classifier = _classifier(num_classes)
        self.freeze()

    def _make_stage(self, stage: int) -> list[nn.Module]:
        channels = self.channels[stage]
        before = self.channels[stage - 1] if stage else 3
        arguments = dict(
            padding=self.dilations[stage],
            dilation=self.dilations[stage],
            **self.conv_arguments,
        )
        return [
            MoDConv(channels, **self.mod_arguments, **arguments)
            if index % 2
            else ConvModule(channels if index else before, channels, 3, **arguments)
            for index in range(self.arch_settings[self.depth][stage])
        ]

    @property
    def stage_modules(self) -> list[nn.Module]:
        stages = [self.features[a:b] for a, b in self.range_sub_modules]
        if hasattr(self, 'classifier'):
            stages.append(chain(nn.Flatten(), self.classifier))
        return stages

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        """Rename torchvision's keys: there norms and ReLUs have numbers of their own."""
        if f'{prefix}features.0.weight' in state_dict:
            layers = [
                f'{prefix}features.{index}'
                for index, layer in enumerate(self.features)
                if not isinstance(layer, nn.MaxPool2d)
            ]
            rename_numbered_layers(state_dict, f'{prefix}features.', layers)


def _classifier(num_classes: int) -> Sequential:
    layers = []
    for channels in (512 * 7 * 7, 4096):
        layers += [nn.Linear(channels, 4096), nn.ReLU(inplace=True), nn.Dropout()]
    last = nn.Linear(4096, num_classes)
    init_cfg = dict(type='Normal', std=0.01, layer='Linear')
    return Sequential(*layers, last, init_cfg=init_cfg)


cut_into_stages.register(VGGMoD)(vgg_stages)
