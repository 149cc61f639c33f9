"""GoogLeNet for images of 32×32.

Going Deeper with Convolutions, Szegedy et al., CVPR 2015: the inception modules of its
Table 1, with batch norms and two 3×3 convolutions for each 5×5 one (Rethinking the
Inception Architecture, Szegedy et al., CVPR 2016), behind one 3×3 convolution in place
of the stem for large images, as is usual on CIFAR. No auxiliary classifiers: exits take
their place.
"""

from collections import OrderedDict

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdyn.models.backbone import StackOfStages, stages_of_stack
from mmdyn.models.stages import cut_into_stages
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_counts


class Inception(nn.Module):
    """Four branches side by side: 1×1, 3×3, 5×5 (as two 3×3) and pooling.

    The arguments are the channels of the input and of the branches, in ``threes`` and
    ``fives`` of the 1×1 convolution and of those behind it, and the config of the norms.
    """

    def __init__(
        self,
        in_channels: int,
        ones: int,
        threes: tuple[int, int],
        fives: tuple[int, int],
        pooled: int,
        norm_cfg: dict,
    ):
        super().__init__()

        def conv(channels: int, out_channels: int, kernel: int) -> ConvModule:
            return ConvModule(
                channels, out_channels, kernel, padding=kernel // 2, norm_cfg=norm_cfg
            )

        self.out_channels = ones + threes[1] + fives[1] + pooled
        self.branch1x1 = conv(in_channels, ones, 1)
        self.branch3x3 = nn.Sequential(conv(in_channels, threes[0], 1), conv(*threes, 3))
        self.branch5x5 = nn.Sequential(
            conv(in_channels, fives[0], 1), conv(*fives, 3), conv(fives[1], fives[1], 3)
        )
        self.branch_pool = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1), conv(in_channels, pooled, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = (self.branch1x1, self.branch3x3, self.branch5x5, self.branch_pool)
        return torch.cat([branch(x) for branch in branches], dim=1)


@MODELS.register_module()
class GoogLeNetCIFAR(StackOfStages):
    """GoogLeNet of nine inception modules; its last map has 1024 channels.

    Its three stages end with modules 3b, 4e and 5b; the first two with the pool behind
    the module, where Lin et al. (A Closer Look at Branch Classifiers) add branches.

    Args:
        in_channels (int): Channels of the images.
        norm_cfg (dict): Config of the norms.
        **kwargs: Further arguments of :class:`StackOfStages`.

    Raises:
        ValueError: For a stage number that does not exist, or ``in_channels`` below 1.

    Example:
        >>> model = dict(backbone=dict(type='mmdyn.GoogLeNetCIFAR'))
    """

    # Table 1: #1×1, (#3×3 reduce, #3×3), (#5×5 reduce, #5×5), pool proj.
    modules_of_stages: tuple[dict[str, tuple], ...] = (
        {
            'inception3a': (64, (96, 128), (16, 32), 32),
            'inception3b': (128, (128, 192), (32, 96), 64),
        },
        {
            'inception4a': (192, (96, 208), (16, 48), 64),
            'inception4b': (160, (112, 224), (24, 64), 64),
            'inception4c': (128, (128, 256), (24, 64), 64),
            'inception4d': (112, (144, 288), (32, 64), 64),
            'inception4e': (256, (160, 320), (32, 128), 128),
        },
        {
            'inception5a': (256, (160, 320), (32, 128), 128),
            'inception5b': (384, (192, 384), (48, 128), 128),
        },
    )
    stage_strides = (2, 4, 4)

    def __init__(self, in_channels: int = 3, norm_cfg: dict = dict(type='BN'), **kwargs):
        super().__init__(num_stages=len(self.modules_of_stages), **kwargs)
        check_counts(in_channels=in_channels)
        channels = 192
        self.stem = ConvModule(in_channels, channels, 3, padding=1, norm_cfg=norm_cfg)
        self.stages = nn.ModuleList()
        self.stage_channels = []
        for settings in self.modules_of_stages:
            stage = OrderedDict()
            for name, widths in settings.items():
                stage[name] = Inception(channels, *widths, norm_cfg=norm_cfg)
                channels = stage[name].out_channels
            if len(self.stages) < self.num_stages - 1:
                stage['pool'] = nn.MaxPool2d(3, stride=2, padding=1)
            self.stages.append(nn.Sequential(stage))
            self.stage_channels.append(channels)
        self.feat_dim = channels
        self.freeze()


cut_into_stages.register(GoogLeNetCIFAR)(stages_of_stack)
