"""Cuts of mmpretrain's and mmseg's backbones, and of ours of the same kinds."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mmdyn.models.stages import (
    Stage,
    chain,
    chain_of_stages,
    cut_into_blocks,
    cut_into_stages,
)

_MMPRETRAIN = 'mmpretrain.models.backbones'


@cut_into_stages.register(f'{_MMPRETRAIN}.resnet.ResNet')
def residual_stages(backbone: nn.Module, widths: Sequence | None = None) -> list[Stage]:
    """The stages of a ResNet, ours or a stock one.

    ``widths`` are their channels; ``None``: those of their last blocks.
    """
    layers = [getattr(backbone, name) for name in backbone.res_layers]
    first_conv = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    stride = first_conv.stride[0] * (2 if hasattr(backbone, 'maxpool') else 1)
    strides = [stride := stride * step for step in backbone.strides]
    if widths is None:
        widths = [layer[-1].out_channels for layer in layers]
    return chain_of_stages(_stem(backbone), layers, widths, strides)


@cut_into_blocks.register(f'{_MMPRETRAIN}.resnet.ResNet')
def residual_blocks(backbone: nn.Module) -> list[Stage]:
    """The residual blocks of a ResNet, ours or a stock one, the stem in the first."""
    blocks = [
        stage._replace(forward=block)
        for name, stage in zip(backbone.res_layers, residual_stages(backbone))
        for block in getattr(backbone, name)
    ]
    first = chain(_stem(backbone), blocks[0].forward)
    return [blocks[0]._replace(forward=first), *blocks[1:]]


def _stem(backbone: nn.Module) -> Callable[[Tensor], Tensor]:
    if hasattr(backbone, 'forward_stem'):  # ours
        return backbone.forward_stem
    if backbone.deep_stem:
        layers = [backbone.stem]
    else:
        layers = [backbone.conv1, backbone.norm1, backbone.relu]
    if hasattr(backbone, 'maxpool'):  # mmpretrain's ResNet_CIFAR has none
        layers.append(backbone.maxpool)
    return chain(*layers)


@cut_into_stages.register('mmseg.models.backbones.resnet.ResNet')
def _(backbone: nn.Module) -> list[Stage]:
    width = backbone.base_channels * backbone.block.expansion
    return residual_stages(backbone, [width * 2**i for i in range(backbone.num_stages)])


@cut_into_stages.register(f'{_MMPRETRAIN}.vgg.VGG')
def vgg_stages(backbone: nn.Module) -> list[Stage]:
    """The stages of a VGG, ours or a stock one; a classifier belongs to the last."""
    stages, stride = [], 1
    for start, end in backbone.range_sub_modules:
        layers = list(backbone.features)[start:end]
        if isinstance(layers[-1], nn.MaxPool2d):  # the last stage may have none
            stride *= 2
        stages.append(Stage(chain(*layers), layers[0].out_channels, stride))
    if hasattr(backbone, 'classifier'):
        forward = chain(stages[-1].forward, nn.Flatten(), backbone.classifier)
        stages[-1] = Stage(forward, backbone.classifier[-1].out_features, stride)
    return stages


@cut_into_stages.register(f'{_MMPRETRAIN}.mobilenet_v2.MobileNetV2')
def mobilenet_stages(backbone: nn.Module) -> list[Stage]:
    """The stages of a MobileNetV2, ours or a stock one, each from a halving to the next.

    The 1×1 convolution is part of the last.
    """
    parts = [[backbone.conv1]]
    for name, setting in zip(backbone.layers, [*backbone.arch_settings, (1,)]):
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


@cut_into_stages.register(f'{_MMPRETRAIN}.densenet.DenseNet')
def _(backbone: nn.Module) -> list[Stage]:
    """A stage is a dense block and the transition, or the last norm, that follows it."""
    parts = [chain(*pair) for pair in zip(backbone.stages, backbone.transitions)]
    widths, channels, last = [], backbone.init_channels, len(parts) - 1
    for index, transition in enumerate(backbone.transitions):
        channels += backbone.depths[index] * backbone.growth_rate
        channels = channels if index == last else transition.conv.out_channels
        widths.append(channels)
    strides = [4 * 2 ** min(index + 1, last) for index in range(len(parts))]
    return chain_of_stages(backbone.stem, parts, widths, strides)


@cut_into_stages.register(f'{_MMPRETRAIN}.t2t_vit.T2T_ViT')
def _(backbone: nn.Module) -> list[Stage]:
    """A stage is a layer, the first with tokens-to-token, the last with the final norm.

    The state is all tokens; the features are the class token (N, C) behind that same
    norm, which Regol et al. (JEI-DNN) count at every exit too. Training the norm for a
    later exit changes it for the earlier ones.
    """
    if backbone.out_type != 'cls_token':
        raise ValueError(
            f"a {type(backbone).__name__} is cut with out_type='cls_token' only, got "
            f'{backbone.out_type!r}'
        )
    first, *others = backbone.encoder
    parts = [chain(partial(_embedded_tokens, backbone), first), *others]
    parts[-1] = chain(parts[-1], backbone.norm)
    # The state after the last stage is normed already.
    choices = [chain(_class_token, backbone.norm)] * len(others) + [_class_token]
    width = backbone.cls_token.shape[2]
    return [Stage(part, width, 16, choice) for part, choice in zip(parts, choices)]


def _embedded_tokens(backbone: nn.Module, images: Tensor) -> Tensor:
    """The input of the first layer: class token and patch tokens (N, 1 + L, C)."""
    from mmpretrain.models.utils import resize_pos_embed

    x, resolution = backbone.tokens_to_token(images)
    x = torch.cat([backbone.cls_token.expand(len(x), -1, -1), x], dim=1)
    positions = resize_pos_embed(
        backbone.pos_embed,
        backbone.patch_resolution,
        resolution,
        backbone.interpolate_mode,
        backbone.num_extra_tokens,
    )
    return backbone.drop_after_pos(x + positions)


def _class_token(tokens: Tensor) -> Tensor:
    return tokens[:, 0]
