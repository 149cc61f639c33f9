"""Checked settings and layers of a mixture model.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019.
"""

from collections.abc import Iterable, Sequence
from numbers import Integral

from mmcv.cnn import build_norm_layer
from torch import nn

from mmdyn.methods.cnmm.fan_out import FanOut
from mmdyn.methods.cnmm.graph import Function
from mmdyn.utils.validation import check_counts, check_out_indices


def checked_scales(scales: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(scales, Sequence):
        raise ValueError(f'scales must be a sequence, got {scales!r}')
    scales = tuple(scales)
    if len(scales) < 3:
        raise ValueError(
            f'scales must give 3 nodes or more (T ≥ 2: with fewer there is nothing to '
            f'mix), got {scales}'
        )
    valid = range(len(channels))
    if not all(isinstance(scale, Integral) and scale in valid for scale in scales):
        raise ValueError(
            f'scales must lie in 0…{len(channels) - 1}, for channels has '
            f'{len(channels)} values, got {scales}'
        )
    if scales[0] != 0:
        raise ValueError(f'node 0 must be of the finest scale, 0, got scales {scales}')
    return scales


def checked_outputs(nodes: Sequence[int] | None, last: int) -> tuple[int, ...]:
    nodes = check_out_indices(nodes, last)
    if list(nodes) != sorted(set(nodes)) or nodes[-1] != last:
        raise ValueError(
            f'out_indices must rise and end with the last node, {last}: nothing would '
            f'use the nodes behind; got {nodes}'
        )
    return nodes


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


def check_nodes(
    functions: Iterable[Function], scales: Sequence[int], out_indices: Sequence[int]
) -> None:
    """Refuse, by a ``ValueError``, nodes from which no function leads to an output."""
    sources = {t for t, _ in functions}
    unused = sorted(set(range(len(scales))) - sources - set(out_indices))
    if unused:
        raise ValueError(
            f'no function leads from nodes {unused} to an output: all later nodes are '
            f'finer; got scales {scales} and out_indices {out_indices}'
        )


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


def make_fan_outs(
    functions: Iterable[Function], scales: Sequence[int], channels: Sequence[int]
) -> nn.ModuleDict:
    """The convolutions of all functions, by their node and the scale of their targets."""
    targets: dict[int, dict[int, list[int]]] = {n: {} for n in range(len(scales) - 1)}
    for t, s in functions:
        targets[t].setdefault(scales[s], []).append(s)
    return nn.ModuleDict(
        {
            str(node): nn.ModuleDict(
                {
                    f'scale{scale}': FanOut(
                        channels[scales[node]],
                        channels[scale],
                        nodes,
                        octaves=scale - scales[node],
                    )
                    for scale, nodes in by_scale.items()
                }
            )
            for node, by_scale in targets.items()
        }
    )
