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


class DenseLayer(ConvModule):
    """Norm, ReLU and 3×3 convolution, whose output is appended to its input.

    It maps (N, C, H, W) to (N, C + k, H, W).
    """

    def forward(self, x: Tensor) -> Tensor:
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
        stem_channels (int): Channels of the first convolution: 16 as in the paper; 24
            gives the cost of DenseNet-40-12 in Lin et al.'s on branch classifiers.
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
        check_counts(depth=depth, growth_rate=growth_rate)
        check_counts(stem_channels=stem_channels, in_channels=in_channels)
        if depth < 7 or depth % 3 != 1:
            raise ValueError(f'depth must be 3n+4 (7, 10, … 40, …), got {depth}')
        options = dict(norm_cfg=norm_cfg, order=('norm', 'act', 'conv'))
        channels = stem_channels
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        self.stage_channels = []
        for stage in range(self.num_stages):
            layers = []
            for _ in range((depth - 4) // 3):
                layers.append(DenseLayer(channels, growth_rate, 3, padding=1, **options))
                channels += growth_rate
            if stage < self.num_stages - 1:
                conv = ConvModule(channels, channels, 1, **options)
                layers += [conv, nn.AvgPool2d(2)]
            else:
                norm = build_norm_layer(norm_cfg, channels)[1]
                layers += [norm, nn.ReLU(inplace=True)]
            self.stages.append(nn.Sequential(*layers))
            self.stage_channels.append(channels)
        self.feat_dim = channels
        self.freeze()


cut_into_stages.register(DenseNetCIFAR)(stages_of_stack)
