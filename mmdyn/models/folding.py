"""Convolutions with the batch norm that follows them inside."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class FoldedConv:
    """A convolution and the norm behind it as one affine map.

    Args:
        weight (Tensor): Weights (D, C, k, k), channels last in memory.
        bias (Tensor): Biases (D,).
        conv (nn.Conv2d): The convolution, for its stride, padding and dilation.
    """

    weight: Tensor
    bias: Tensor
    conv: nn.Conv2d

    @property
    def matrix(self) -> Tensor:
        """The weights as a matrix (taps * C, D), a view; taps go row by row."""
        return self.weight.permute(0, 2, 3, 1).reshape(len(self.weight), -1).t()

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve a whole map (N, C, H, W)."""
        conv = self.conv
        return nn.functional.conv2d(
            x, self.weight, self.bias, conv.stride, conv.padding, conv.dilation
        )


def can_fold(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the pair is, at inference, one convolution with a bias."""
    return (
        type(conv) is nn.Conv2d
        and conv.groups == 1
        and conv.padding_mode == 'zeros'
        and isinstance(norm, _BatchNorm)
        and norm.track_running_stats
    )


class FoldedConvs:
    """Folded convolutions, made again only when a tensor they were made of has changed.

    Costs the memory of one copy of the weights for every norm they are folded with. What
    is written to a tensor's ``.data`` goes unnoticed: :meth:`clear` after that.
    """

    def __init__(self):
        self._made: dict = {}

    def __call__(self, conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype):
        """Fold a pair.

        Args:
            conv (nn.Conv2d): A convolution.
            norm (nn.Module): A batch norm with running statistics.
            dtype (torch.dtype): Type of the folded weights.

        Returns:
            FoldedConv: The two in one.
        """
        tensors = (
            conv.weight,
            conv.bias,
            norm.weight,
            norm.bias,
            norm.running_mean,
            norm.running_var,
        )
        # Changes in place raise a tensor's version; moves to devices change its memory.
        state = tuple((t.data_ptr(), _version(t)) for t in tensors if t is not None)
        key = (id(conv), id(norm), dtype)
        if key not in self._made or self._made[key][0] != state:
            self._made[key] = state, _fold(conv, norm, dtype)
        return self._made[key][1]

    def clear(self) -> None:
        """Forget everything."""
        self._made.clear()

    def __deepcopy__(self, memo):
        return FoldedConvs()  # a copy of a network has other convolutions

    def __reduce__(self):
        return FoldedConvs, ()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype) -> FoldedConv:
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    bias = -norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    if norm.bias is not None:
        bias = bias + norm.bias
    weight = (conv.weight * scale[:, None, None, None]).to(dtype)
    return FoldedConv(
        weight.contiguous(memory_format=torch.channels_last), bias.to(dtype), conv
    )
