"""Checked settings and the stem of a mixture model."""

from collections.abc import Sequence
from numbers import Integral

from mmcv.cnn import build_norm_layer
from torch import nn

from mmdyn.methods.cnmm.graph import Function, all_functions, live_functions
from mmdyn.utils.validation import check_counts, check_out_indices


def checked_scales(scales: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(scales, Sequence):
        raise ValueError(f'scales must be a sequence, got {scales!r}')
    scales, valid = tuple(scales), range(len(channels))
    if len(scales) < 3:
        raise ValueError(f'scales must give 3 nodes or more (T ≥ 2), got {scales}')
    if not all(isinstance(scale, Integral) and scale in valid for scale in scales):
        raise ValueError(
            f'scales must lie in 0…{len(valid) - 1}, places in channels, got {scales}'
        )
    if scales[0] != 0:
        raise ValueError(f'node 0 must be of the finest scale, 0, got scales {scales}')
    return scales


def checked_functions(
    scales: Sequence[int], out_indices: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[Function, ...]]:
    """The nodes that are outputs, and the functions on paths to them."""
    last = len(scales) - 1
    outputs = check_out_indices(out_indices, last)
    if list(outputs) != sorted(set(outputs)) or outputs[-1] != last:
        raise ValueError(
            f'out_indices must rise and end with the last node, {last}, got {outputs}'
        )
    functions = live_functions(all_functions(scales), outputs)
    unused = sorted({*range(last)} - {t for t, _ in functions} - {*outputs})
    if unused:
        raise ValueError(
            f'no function leads from nodes {unused} to an output: all later nodes are '
            f'finer; got scales {scales} and out_indices {outputs}'
        )
    return outputs, functions


def checked_widths(
    out_channels: Sequence[int] | None, out_indices: Sequence[int]
) -> dict[int, int]:
    """Channels that outputs are projected to, by their nodes."""
    if out_channels is None:
        return {}
    check_counts(out_channels=out_channels)
    if len(out_channels) != len(out_indices):
        raise ValueError(
            f'out_channels must have a value for each of the {len(out_indices)} '
            f'out_indices, got {tuple(out_channels)}'
        )
    return dict(zip(out_indices, out_channels))


def make_stem(stem: str, in_channels: int, channels: int, norm_cfg: dict):
    """The layers before node 0, and their stride."""
    if stem == 'cifar':
        return nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), 1
    layers = nn.Sequential(
        nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
        build_norm_layer(norm_cfg, channels)[1],
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
    return layers, 4
