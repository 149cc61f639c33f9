"""Positions that a masked block computes, and the rows of the taps of each."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def read_mask(mask: Tensor, convs: list[nn.Conv2d], x: Tensor) -> Tensor:
    """Mark what the second convolution of a branch reads to compute a mask (N, 1, H, W).

    The marks (N, 1, H', W') are on the output of the first one, whose input is x.
    """
    first, second = convs[:2]
    size = tuple(-(-length // first.stride[0]) for length in x.shape[2:])
    return dilate(mask, second.stride[0], second.dilation[0], size)


def dilate(mask: Tensor, stride: int, dilation: int, size: tuple[int, int]) -> Tensor:
    """Mark the inputs (N, 1, *size) that a 3×3 convolution reads for outputs of a mask.

    Its padding is its dilation. A position's gradient goes to one mark that reads it.
    """
    if stride > 1:
        on_input = mask.new_zeros(len(mask), 1, *size)
        on_input[..., ::stride, ::stride] = mask
        mask = on_input
    padded = functional.pad(mask, [dilation] * 4)
    return functional.max_pool2d(padded, 3, stride=1, dilation=dilation)


def dense_rows(shape: torch.Size, device: torch.device) -> Tensor:
    """Row numbers (N, H, W) of a map whose every position has a row, in order."""
    n, _, height, width = shape
    return torch.arange(n * height * width, device=device).view(n, height, width)


def numbered_rows(positions: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Row numbers (N, H, W) of a map with rows for positions (R,) alone; R elsewhere."""
    count = len(positions)
    rows = positions.new_full(shape, count)
    rows.view(-1)[positions] = torch.arange(count, device=positions.device)
    return rows


def tap_rows(
    rows: Tensor, positions: Tensor, stride: int, dilation: int, outside: int
) -> Tensor:
    """Row (P, 9) of each tap of a 3×3 convolution with padding = dilation.

    Args:
        rows (Tensor): Row number of each position of its input, (N, H, W).
        positions (Tensor): Positions (P,) of N × ceil(H / stride) × ceil(W / stride).
        stride, dilation (int): Those of the convolution.
        outside (int): Row number that stands for positions outside of the map.
    """
    padded = functional.pad(rows, [dilation] * 4, value=outside)
    n, height, width = padded.shape
    places = torch.arange(padded.numel(), device=rows.device).view(n, height, width)
    corners = places[
        :, : height - 2 * dilation : stride, : width - 2 * dilation : stride
    ].reshape(-1)
    steps = torch.arange(3, device=rows.device) * dilation
    taps = (steps[:, None] * width + steps).view(-1)
    reached = corners.index_select(0, positions)[:, None] + taps
    return padded.view(-1).index_select(0, reached.view(-1)).view(-1, 9)
