"""DenseNet for images of 32×32: Densely Connected Convolutional Networks, Huang et al.,
CVPR 2017, the basic variant, without bottlenecks and without compression.

Not here: DenseNet-BC, dropout, recomputing concatenations to save memory.
"""

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn

from mmdyn.models.backbone import StackOfStages, stages_of_stack
from mmdyn.models.stages import cut_into_stages
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_counts

NORM_ACT_CONV = dict(order=('norm', 'act', 'conv'))


class DenseLayer(ConvModule):
    """Norm, ReLU and 3×3 convolution, whose output is appended to its input.

    Args:
        in_channels (int): Channels C of the input.
        growth_rate (int): Channels k that the layer adds.
        norm_cfg (dict): Config of the norm.
    """

    def __init__(self, in_channels: int, growth_rate: int, norm_cfg: dict):
        super().__init__(
            in_channels, growth_rate, 3, padding=1, norm_cfg=norm_cfg, **NORM_ACT_CONV
        )

    def forward(self, x: Tensor) -> Tensor:
        """Append k maps to x: (N, C, H, W) to (N, C + k, H, W)."""
        return torch.cat([x, super().forward(x)], dim=1)


@MODELS.register_module()
class DenseNetCIFAR(StackOfStages):
    """DenseNet of three dense blocks, by default DenseNet-40-12.

    A stage is a dense block with the transition that halves the map, in the last stage
    with norm and ReLU.

    Args:
        depth (int): Number of layers with weights, 3n+4: three blocks of n layers, a
            stem, two transitions and a linear classifier.
        growth_rate (int): Channels that each layer of a block adds.
        stem_channels (int): Channels of the first convolution: 16 as in the DenseNet
            paper, twice the growth rate in other implementations (24 gives the cost of
            DenseNet-40-12 in Lin et al.'s paper on branch classifiers).
        in_channels (int): Channels of the images.
        norm_cfg (dict): Config of the norms.
        **kwargs: Further arguments of :class:`StackOfStages`.

    Raises:
        ValueError: For a depth that is not 3n+4, a stage number that does not exist, or
            values below 1.

    Example:
        >>> model = dict(backbone=dict(type='mmdyn.DenseNetCIFAR', stem_channels=24))
    """

    stage_strides = (2, 4, 4)

    def __init__(
        self,
        depth: int = 40,
        growth_rate: int = 12,
        stem_channels: int = 16,
        in_channels: int = 3,
        norm_cfg: dict = dict(type='BN'),
        **kwargs,
    ):
        super().__init__(num_stages=3, **kwargs)
        check_counts(
            depth=depth,
            growth_rate=growth_rate,
            stem_channels=stem_channels,
            in_channels=in_channels,
        )
        if depth < 7 or depth % 3 != 1:
            raise ValueError(
                f'depth must be 3n+4, for three blocks of n layers (7, 10, … 40, …), '
                f'got {depth}'
            )
        channels = stem_channels
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        self.stage_channels = []
        for stage in range(self.num_stages):
            layers = []
            for _ in range((depth - 4) // 3):
                layers.append(DenseLayer(channels, growth_rate, norm_cfg))
                channels += growth_rate
            if stage < self.num_stages - 1:
                arguments = dict(norm_cfg=norm_cfg, **NORM_ACT_CONV)
                layers.append(ConvModule(channels, channels, 1, **arguments))
                layers.append(nn.AvgPool2d(2))
            else:
                layers.append(build_norm_layer(norm_cfg, channels)[1])
                layers.append(nn.ReLU(inplace=True))
            self.stages.append(nn.Sequential(*layers))
            self.stage_channels.append(channels)
        self.feat_dim = channels
        self.freeze()


cut_into_stages.register(DenseNetCIFAR)(stages_of_stack)
