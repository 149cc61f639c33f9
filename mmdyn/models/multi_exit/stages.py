"""Where a backbone can be cut into stages, each with an exit behind it.

A cut is found again for every forward pass rather than stored: modules stay where they
are, under their own names, and copies of a model are cut at their own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce, singledispatch
from operator import itemgetter
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmdyn.models.backbones import (
    CNMM,
    DenseNetCIFAR,
    GoogLeNetCIFAR,
    MobileNetV2MoD,
    MSDNet,
    ResNet,
    VGGMoD,
)
from mmdyn.models.layers.subnetwork import Subnetwork

__all__ = ['Stage', 'cut_into_blocks', 'cut_into_stages']


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
        backbone (nn.Module): One of these, or one that is registered:

            - ``mmdyn.ResNet`` and those built on it, mmpretrain's ResNet and
              ResNet_CIFAR, mmseg's ResNet: their stages.
            - ``mmdyn.VGGMoD``, mmpretrain's VGG: a stage ends with a pool; a classifier
              of the backbone's own belongs to the last stage.
            - ``mmdyn.MobileNetV2MoD``, mmpretrain's MobileNetV2: a stage ends before the
              layer that halves the map; the 1×1 convolution is part of the last.
            - ``mmdyn.DenseNetCIFAR``, mmpretrain's DenseNet: a dense block and the
              transition, or the last norm, that follows it.
            - ``mmdyn.GoogLeNetCIFAR``: a stage ends with a pool, the last without.
            - ``mmdyn.MSDNet``: its blocks. A stage gives all the scales that are still
              needed; its features are those of the coarsest.
            - ``mmdyn.CNMM``: a stage ends at each of its ``out_indices``.
            - ``mmdyn.T2TViT``, mmpretrain's T2T_ViT: a layer, the first with
              tokens-to-token, the last with the norm behind it. A stage gives all tokens;
              its features are the class token (N, C) behind that same norm, which Regol
              et al. (JEI-DNN) count at every exit too. What trains the norm for a later
              exit changes it for the earlier ones.

    Returns:
        list[Stage]: The stages from first to last; the stem is part of the first.

    Raises:
        TypeError: If nobody registered how to cut this type of backbone.
        ValueError: If a T2T_ViT does not give its class token.
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
    return residual_stages(backbone, backbone.forward_stem)


@singledispatch
def cut_into_blocks(backbone: nn.Module) -> list[Stage]:
    """Cut a ResNet into its residual blocks.

    Args:
        backbone (nn.Module): ``mmdyn.ResNet``, one built on it, or mmpretrain's ResNet
            or ResNet_CIFAR.

    Returns:
        list[Stage]: The blocks from first to last; the stem is part of the first.

    Raises:
        TypeError: For another backbone.
    """
    raise TypeError(
        f'only ResNets can be cut into blocks, got a {type(backbone).__name__}; '
        f"cut='stage' takes others"
    )


@cut_into_blocks.register
def _(backbone: ResNet) -> list[Stage]:
    return residual_blocks(backbone, backbone.forward_stem)


@cut_into_stages.register
def _(backbone: CNMM) -> list[Stage]:
    return cut_into_stages(backbone.carve())


@cut_into_stages.register
def _(subnetwork: Subnetwork) -> list[Stage]:
    model = subnetwork.model
    return [
        Stage(
            part.forward,
            model.out_width(part.node),
            model.strides[part.node],
            part.features,
        )
        for part in subnetwork.parts()
    ]


@cut_into_stages.register
def _(backbone: VGGMoD) -> list[Stage]:
    return vgg_stages(backbone, backbone.stages())


@cut_into_stages.register
def _(backbone: MobileNetV2MoD) -> list[Stage]:
    return mobilenet_stages(backbone, backbone.settings)


@cut_into_stages.register
def _(backbone: DenseNetCIFAR) -> list[Stage]:
    return in_a_row(backbone.stem, backbone.stages, backbone.stage_channels, (2, 4, 4))


@cut_into_stages.register
def _(backbone: GoogLeNetCIFAR) -> list[Stage]:
    return in_a_row(backbone.stem, backbone.stages, backbone.stage_channels, (2, 4, 4))


@cut_into_stages.register
def _(backbone: MSDNet) -> list[Stage]:
    coarsest = itemgetter(backbone.num_scales - 1)
    return [
        Stage(partial(backbone.forward_stage, index), width, backbone.stride, coarsest)
        for index, width in enumerate(backbone.stage_channels)
    ]


def stock_stem(backbone: nn.Module, x: Tensor) -> Tensor:
    """What the first stage of a ResNet of mmpretrain or mmseg takes, from images."""
    if backbone.deep_stem:
        x = backbone.stem(x)
    else:
        x = backbone.relu(backbone.norm1(backbone.conv1(x)))
    # mmpretrain's ResNet_CIFAR has no pool.
    return backbone.maxpool(x) if hasattr(backbone, 'maxpool') else x


def residual_stages(
    backbone: nn.Module, stem: Callable, widths: Sequence[int] | None = None
) -> list[Stage]:
    """The stages of a ResNet, ours or a stock one, behind its stem.

    ``widths`` are their channels; ``None``: what their blocks say.
    """
    layers = [getattr(backbone, name) for name in backbone.res_layers]
    first_conv = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    stride = first_conv.stride[0] * (2 if hasattr(backbone, 'maxpool') else 1)
    strides = [stride := stride * step for step in backbone.strides]
    if widths is None:
        widths = [layer[-1].out_channels for layer in layers]
    return in_a_row(stem, layers, widths, strides)


def residual_blocks(backbone: nn.Module, stem: Callable) -> list[Stage]:
    """The residual blocks of a ResNet, ours or a stock one, behind its stem."""
    blocks, widths, strides = [], [], []
    for name, stage in zip(backbone.res_layers, residual_stages(backbone, stem)):
        for block in getattr(backbone, name):
            blocks.append(block)
            widths.append(stage.out_channels)
            strides.append(stage.stride)
    return in_a_row(stem, blocks, widths, strides)


def vgg_stages(backbone: nn.Module, parts: Sequence[Sequence]) -> list[Stage]:
    """The stages of a VGG, ours or a stock one, of which ``parts`` are the layers."""
    stages, stride = [], 1
    for layers in parts:
        if isinstance(layers[-1], nn.MaxPool2d):  # the last stage may have none
            stride *= 2
        stages.append(Stage(chain(*layers), layers[0].out_channels, stride))
    if hasattr(backbone, 'classifier'):
        forward = chain(stages[-1].forward, nn.Flatten(), backbone.classifier)
        stages[-1] = Stage(forward, backbone.classifier[-1].out_features, stride)
    return stages


def mobilenet_stages(backbone: nn.Module, settings: Sequence[Sequence]) -> list[Stage]:
    """The stages of a MobileNetV2, ours or a stock one, with these layer settings."""
    parts = [[backbone.conv1]]
    for name, setting in zip(backbone.layers, [*settings, (1,)]):
        if setting[-1] == 2:  # the stride
            parts.append([])
        parts[-1].append(getattr(backbone, name))
    # The first block of a layer is never a MoD block, whose convolutions are narrow.
    ends = [
        end[0].conv[-1] if isinstance(end, nn.Sequential) else end for *_, end in parts
    ]
    return [
        Stage(chain(*part), end.out_channels, 2**number)
        for number, (part, end) in enumerate(zip(parts, ends), start=1)
    ]


def in_a_row(
    stem: Callable, parts: Iterable[Callable], widths: Iterable, strides: Iterable
) -> list[Stage]:
    """Stages that are one function each, the stem being part of the first."""
    first, *others = parts
    return [
        Stage(*values) for values in zip([chain(stem, first), *others], widths, strides)
    ]


def chain(*functions: Callable) -> Callable:
    """The composition of functions, the first one first."""
    return lambda x: reduce(lambda x, function: function(x), functions, x)
