"""Convolutions fused with the batch norm behind them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights


@dataclass(frozen=True)
class FoldedConv:
    """A convolution and the norm behind it as one affine map."""

    weight: Tensor  # D, C, k, k, channels last in memory
    bias: Tensor  # D
    conv: nn.Conv2d  # for its stride, padding and dilation

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
    """Cache of folded convolutions, which follows changes of their tensors.

    It needs the memory of one copy of the weights for every norm they are folded with.
    Writing to a tensor's ``.data`` goes unnoticed: call :meth:`clear` after that.
    """

    def __init__(self):
        self._made: dict = {}

    def __call__(
        self, conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype
    ) -> FoldedConv:
        """Fold a pair that :func:`can_fold`, into weights of a type."""
        tensors = (t for t in _tensors(conv, norm) if t is not None)
        # Changes in place raise a tensor's version; moves to devices change its memory.
        state = tuple((t.data_ptr(), _version(t)) for t in tensors)
        key = (id(conv), id(norm), dtype)
        if key not in self._made or self._made[key][0] != state:
            self._made[key] = state, _fold(conv, norm, dtype)
        return self._made[key][1]

    def clear(self) -> None:
        self._made.clear()

    def __deepcopy__(self, memo):
        return FoldedConvs()  # a copy of a network has other convolutions

    def __reduce__(self):
        return FoldedConvs, ()


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _tensors(conv: nn.Conv2d, norm: nn.Module) -> tuple[Tensor | None, ...]:
    statistics = norm.running_mean, norm.running_var
    return conv.weight, conv.bias, *statistics, norm.weight, norm.bias


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.Module, dtype: torch.dtype) -> FoldedConv:
    exact = [None if t is None else t.double() for t in _tensors(conv, norm)]
    weight, bias = fuse_conv_bn_weights(*exact[:4], norm.eps, *exact[4:])
    weight = weight.to(dtype, memory_format=torch.channels_last)
    return FoldedConv(weight, bias.to(dtype), conv)
