"""Where mmpretrain's backbones can be cut into stages."""

from __future__ import annotations

from functools import partial

import torch
from mmpretrain.models.backbones import VGG, DenseNet, MobileNetV2, ResNet, T2T_ViT
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from .stages import (
    Stage,
    chain,
    cut_into_blocks,
    cut_into_stages,
    in_a_row,
    mobilenet_stages,
    residual_blocks,
    residual_stages,
    stock_stem,
    vgg_stages,
)


@cut_into_stages.register
def _(backbone: ResNet) -> list[Stage]:
    return residual_stages(backbone, partial(stock_stem, backbone))


@cut_into_blocks.register
def _(backbone: ResNet) -> list[Stage]:
    return residual_blocks(backbone, partial(stock_stem, backbone))


@cut_into_stages.register
def _(backbone: VGG) -> list[Stage]:
    layers = list(backbone.features)
    return vgg_stages(backbone, [layers[a:b] for a, b in backbone.range_sub_modules])


@cut_into_stages.register
def _(backbone: MobileNetV2) -> list[Stage]:
    return mobilenet_stages(backbone, backbone.arch_settings)


@cut_into_stages.register
def _(backbone: DenseNet) -> list[Stage]:
    parts = [chain(*pair) for pair in zip(backbone.stages, backbone.transitions)]
    widths, channels, last = [], backbone.init_channels, len(parts) - 1
    for index, transition in enumerate(backbone.transitions):
        channels += backbone.depths[index] * backbone.growth_rate
        channels = channels if index == last else transition.conv.out_channels
        widths.append(channels)
    strides = [4 * 2 ** min(index + 1, last) for index in range(len(parts))]
    return in_a_row(backbone.stem, parts, widths, strides)


@cut_into_stages.register
def _(backbone: T2T_ViT) -> list[Stage]:
    if backbone.out_type != 'cls_token':
        raise ValueError(
            f"a {type(backbone).__name__} is cut with out_type='cls_token' only, got "
            f'{backbone.out_type!r}'
        )
    first, *others = backbone.encoder
    parts = [chain(partial(_embedded_tokens, backbone), first), *others]
    parts[-1] = chain(parts[-1], backbone.norm)
    # What the last stage gives has gone through the norm already.
    choices = [chain(_class_token, backbone.norm)] * len(others) + [_class_token]
    width = backbone.cls_token.shape[2]
    return [Stage(part, width, 16, choice) for part, choice in zip(parts, choices)]


def _embedded_tokens(backbone: T2T_ViT, images: Tensor) -> Tensor:
    """What the first layer gets: class token and patch tokens (N, 1 + L, C)."""
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
