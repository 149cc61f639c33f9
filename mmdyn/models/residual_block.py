"""Residual blocks: Deep Residual Learning, He et al., CVPR 2016, Fig. 5.

Their modules have the names of the stock OpenMMLab blocks: ``conv1``, ``bn1``, ….
"""

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdyn.models.resnet_parts import conv_and_norm


class ResidualBlock(BaseModule):
    """Base of both blocks: a branch of convolutions added to a skip connection.

    Args:
        in_channels (int): Channels of the input.
        planes (int): Channels of the 3×3 convolutions; the output has
            ``planes * expansion``.
        stride (int): Stride of the block.
        dilation (int): Dilation of the first 3×3 convolution.
        downsample (nn.Module | None): Fits the skip connection to the output.
        style (str): Which convolution of a bottleneck has the stride: the 3×3
            (``'pytorch'``) or the first 1×1 (``'caffe'``). Of no effect elsewhere.
        with_cp (bool): Recompute the branch in the backward pass to save memory.
        **conv_arguments: ``conv_cfg`` and ``norm_cfg`` of :func:`conv_and_norm`.
    """

    expansion: int

    def __init__(
        self,
        in_channels: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = 'pytorch',
        with_cp: bool = False,
        **conv_arguments,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = planes * self.expansion
        self.stride = stride
        self.dilation = dilation
        self.style = style
        self.with_cp = with_cp
        self.conv_arguments = conv_arguments
        self._norm_names: list[str] = []
        self.add_branch(in_channels, planes, self.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def add_branch(self, in_channels: int, planes: int, out_channels: int) -> None:
        """Create the convolutions and norms of the branch."""
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """Compute the branch for x (N, C, H, W), up to and without the last ReLU."""
        raise NotImplementedError

    def add_conv(
        self, in_channels: int, out_channels: int, kernel: int, stride=1, dilation=1
    ) -> None:
        """Append a convolution and its norm to the branch."""
        shape = (in_channels, out_channels, kernel, stride, dilation)
        index = len(self._norm_names) + 1
        layers = conv_and_norm(*shape, index, **self.conv_arguments)
        for name, module in layers.items():
            self.add_module(name, module)
        self._norm_names.append(name)

    def norm(self, index: int) -> nn.Module:
        """The norm of the branch's convolution ``index``, counted from 1."""
        return getattr(self, self._norm_names[index - 1])

    @property
    def last_norm(self) -> nn.Module:
        """The norm whose zero weight makes the block start as the identity."""
        return self.norm(len(self._norm_names))

    def run_branch(self, x: Tensor) -> Tensor:
        """Compute the branch; with ``with_cp`` its activations are not kept."""
        if self.with_cp and x.requires_grad:
            return checkpoint(self.branch, x, use_reentrant=False)
        return self.branch(x)

    def forward(self, x: Tensor) -> Tensor:
        # In this order, and in place, the fewest maps are allocated: on CPUs that costs
        # more time than adding.
        out = self.run_branch(x)
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class BasicBlock(ResidualBlock):
    """Two 3×3 convolutions and a skip connection; see :class:`ResidualBlock`."""

    expansion = 1

    def add_branch(self, in_channels: int, planes: int, out_channels: int) -> None:
        self.add_conv(in_channels, planes, 3, self.stride, self.dilation)
        self.add_conv(planes, out_channels, 3)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(1)(self.conv1(x)))
        return self.norm(2)(self.conv2(x))


class Bottleneck(ResidualBlock):
    """1×1, 3×3, 1×1 convolutions and a skip connection; see :class:`ResidualBlock`."""

    expansion = 4

    def add_branch(self, in_channels: int, planes: int, out_channels: int) -> None:
        on_first, on_second = 1, self.stride
        if self.style == 'caffe':
            on_first, on_second = on_second, on_first
        self.add_conv(in_channels, planes, 1, on_first)
        self.add_conv(planes, planes, 3, on_second, self.dilation)
        self.add_conv(planes, out_channels, 1)

    def branch(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(1)(self.conv1(x)))
        x = self.relu(self.norm(2)(self.conv2(x)))
        return self.norm(3)(self.conv3(x))
