"""The SE-bottleneck of branches (Lin et al., Fig. 2 right; SE: Hu et al., CVPR 2018)."""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Scale each channel by a factor in (0, 1) from the means of all channels."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.scale = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of a feature map x (N, C, H, W)."""
        return x * self.scale(x.mean((2, 3)))[..., None, None]


class SEBottleneck(BaseModule):
    """1×1, 3×3, 1×1 convolutions, squeeze-and-excitation, and a skip connection.

    The narrow layers have ``out_channels // 4`` channels, and the 3×3 convolution has the
    stride: with 512 channels on a 7×7 map that makes the 13.7 M MACs of section IV-A.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        se: bool = True,
        norm_cfg: dict = dict(type='BN'),
    ):
        super().__init__()
        width = max(1, out_channels // 4)

        def conv_norm(inputs: int, outputs: int, kernel: int, step: int = 1):
            conv = nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False)
            return conv, build_norm_layer(norm_cfg, outputs)[1]

        self.branch = nn.Sequential(
            *conv_norm(in_channels, width, 1),
            nn.ReLU(inplace=True),
            *conv_norm(width, width, 3, stride),
            nn.ReLU(inplace=True),
            *conv_norm(width, out_channels, 1),
            SqueezeExcitation(out_channels) if se else nn.Identity(),
        )
        self.skip = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.skip = nn.Sequential(*conv_norm(in_channels, out_channels, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block for a feature map x (N, C, H, W)."""
        return self.relu(self.branch(x) + self.skip(x))
