"""Where a backbone can be cut into stages, each with an exit behind it.

A cut is found again for every forward pass rather than stored: modules stay where they
are, under their own names, and copies of a model are cut at their own modules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

from mmpretrain.models.backbones import ResNet as StockResNet
from torch import Tensor, nn

from mmdyn.models.backbones import CNMM, ResNet
from mmdyn.models.layers.subnetwork import Subnetwork

__all__ = ['Stage', 'cut_into_stages']


def itself(x: Tensor) -> Tensor:
    return x


class Stage(NamedTuple):
    """One part of a backbone; the parts in a row make up the whole.

    Args:
        forward (Callable[[Tensor], Tensor]): Computes the features after this stage from
            those before it (from the images in the first stage).
        out_channels (int): Channels of its features.
        stride (int): Pixels of the image a cell of its features spans, along one side.
        features (Callable[[Any], Tensor]): Where ``forward`` gives more than the next
            stage's input, a dict (of dicts) of tensors: picks the features out of it.
    """

    forward: Callable[[Any], Any]
    out_channels: int
    stride: int
    features: Callable[[Any], Tensor] = itself


@singledispatch
def cut_into_stages(backbone: nn.Module) -> list[Stage]:
    """Cut a backbone into stages.

    To make another backbone known::

        @cut_into_stages.register
        def _(backbone: MyBackbone) -> list[Stage]:
            return [Stage(backbone.part1, 64, 4), Stage(backbone.part2, 128, 8)]

    Args:
        backbone (nn.Module): An ``mmdyn.ResNet`` or one built on it, an ``mmdyn.CNMM``
            (a stage ends at each of its ``out_indices``), mmpretrain's ResNet and
            ResNet_CIFAR, or a registered backbone.

    Returns:
        list[Stage]: The stages from first to last; the stem is part of the first.

    Raises:
        TypeError: If nobody registered how to cut this type of backbone.
    """
    known = sorted(
        f'{t.__module__.split(".")[0]}.{t.__name__}'
        for t in cut_into_stages.registry
        if issubclass(t, nn.Module)
    )
    raise TypeError(
        f'do not know where to cut a {type(backbone).__name__} into stages; known: '
        f'{", ".join(known)}. Register another with @cut_into_stages.register'
    )


@cut_into_stages.register
def _(backbone: ResNet) -> list[Stage]:
    return _residual_stages(backbone, backbone.forward_stem)


@cut_into_stages.register
def _(backbone: StockResNet) -> list[Stage]:
    def stem(x: Tensor) -> Tensor:
        if backbone.deep_stem:
            x = backbone.stem(x)
        else:
            x = backbone.relu(backbone.norm1(backbone.conv1(x)))
        # mmpretrain's ResNet_CIFAR has no pool.
        return backbone.maxpool(x) if hasattr(backbone, 'maxpool') else x

    return _residual_stages(backbone, stem)


@cut_into_stages.register
def _(backbone: CNMM) -> list[Stage]:
    return cut_into_stages(backbone.carve())


@cut_into_stages.register
def _(subnetwork: Subnetwork) -> list[Stage]:
    model = subnetwork.model
    return [
        Stage(
            part.forward, model.width(part.node), model.strides[part.node], part.features
        )
        for part in subnetwork.parts()
    ]


def _residual_stages(backbone: nn.Module, stem: Callable) -> list[Stage]:
    layers = [getattr(backbone, name) for name in backbone.res_layers]
    first_conv = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    stride = first_conv.stride[0] * (2 if hasattr(backbone, 'maxpool') else 1)
    stages = []
    for index, (layer, step) in enumerate(zip(layers, backbone.strides)):
        stride *= step
        forward = layer if index else lambda x, first=layer: first(stem(x))
        stages.append(Stage(forward, layer[-1].out_channels, stride))
    return stages
