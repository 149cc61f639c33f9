"""Parts of a ResNet that all blocks share: convolution and norm, stem, projection."""

from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import nn


def conv_and_norm(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    index: int = 1,
    conv_cfg: dict | None = None,
    norm_cfg: dict = dict(type='BN'),
) -> dict[str, nn.Module]:
    """A convolution, padded to keep the size, and its norm, by their stock names.

    These are ``conv<index>`` and, for BN, ``bn<index>``.
    """
    shape = (in_channels, out_channels, kernel, stride)
    options = dict(padding=dilation * (kernel // 2), dilation=dilation, bias=False)
    conv = build_conv_layer(conv_cfg, *shape, **options)
    name, norm = build_norm_layer(norm_cfg, out_channels, postfix=index)
    return {f'conv{index}': conv, name: norm}


def make_stem(
    kind: str, deep: bool, in_channels: int, channels: int, **kwargs
) -> dict[str, nn.Module]:
    """The modules of a stem by their stock names, in the order in which they run."""
    if deep:
        half, layers = channels // 2, []
        for args in ((in_channels, half, 3, 2), (half, half, 3), (half, channels, 3)):
            layers += [*conv_and_norm(*args, **kwargs).values(), nn.ReLU(inplace=True)]
        parts = dict(stem=nn.Sequential(*layers))
    else:
        kernel, stride = (7, 2) if kind == 'imagenet' else (3, 1)
        parts = conv_and_norm(in_channels, channels, kernel, stride, **kwargs)
        parts['relu'] = nn.ReLU(inplace=True)
    if kind == 'imagenet':
        parts['maxpool'] = nn.MaxPool2d(3, stride=2, padding=1)
    return parts


def make_downsample(
    in_channels: int, out_channels: int, stride: int, avg_down: bool, **kwargs
) -> nn.Module | None:
    """The projection on a skip connection, where the branch changes the shape."""
    if stride == 1 and in_channels == out_channels:
        return None
    pool = []
    if avg_down:
        options = dict(ceil_mode=True, count_include_pad=False)
        pool, stride = [nn.AvgPool2d(stride, stride, **options)], 1
    conv = conv_and_norm(in_channels, out_channels, 1, stride, **kwargs)
    return nn.Sequential(*pool, *conv.values())
