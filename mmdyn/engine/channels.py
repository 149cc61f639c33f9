"""Check that the neck and heads of a model take the channels that its backbone gives."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from mmdyn.models.backbone import Backbone
from mmdyn.utils.eval_mode import eval_mode

SIZE = 64  # pixels, height and width of the image to try


def check_channels(model: nn.Module) -> None:
    """Check a model whose backbone is mmdyn's, by running that once on a small image.

    Necks with lists of channels, such as FPN, mmseg's heads without a neck and
    mmpretrain's behind global average pooling are checked; other parts are not. The
    state of the model does not change.

    Raises:
        ValueError: If channels differ, or a head asks for a map that is not there.
    """
    backbone = getattr(model, 'backbone', None)
    if getattr(model, 'checks_channels', False) or not isinstance(backbone, Backbone):
        return
    maps = _maps_of(backbone)
    channels = [features.shape[1] for features in maps]
    if unfit := maps and next(_unfit_settings(model, maps, channels), None):
        given = f'the {type(backbone).__name__} gives {tuple(channels)}'
        raise ValueError(f'model.{unfit[0]}, but {given}: {unfit[1]}')


def unfit_head(head: nn.Module, channels: Sequence[int]) -> tuple[str, str] | None:
    """The setting of an mmseg head that does not fit maps of some channels.

    Returns:
        tuple[str, str] | None: The setting and the valid ones; ``None`` if the head fits
        or is not mmseg's.
    """
    try:
        index, taken, transform = head.in_index, head.in_channels, head.input_transform
    except AttributeError:
        return None
    number = len(channels)
    indices = [index] if isinstance(index, int) else index
    if not all(-number <= i < number for i in indices):
        return f'in_index={index}', f'in_index must lie in {-number}…{number - 1}'
    setting, valid = 'in_channels', [channels[i] for i in indices]
    if transform == 'resize_concat':  # such a head keeps only the sum
        setting, valid = 'sum(in_channels)', sum(valid)
    elif transform is None:
        valid = valid[0]
    taken = taken if isinstance(taken, int) else list(taken)
    if taken == valid:
        return None
    return f'{setting}={taken} for in_index={index}', f'{setting} must be {valid}'


def _maps_of(backbone: Backbone) -> tuple[Tensor, ...]:
    """Features (1, C, H, W) of a backbone at its operating point; empty if not maps."""
    stem = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if stem is None:
        return ()
    image = stem.weight.new_zeros(1, stem.in_channels, SIZE, SIZE)
    # Some backbones draw random numbers in inference, too.
    with torch.random.fork_rng([image.device] if image.is_cuda else []):
        maps = _run(backbone, image)
    are_maps = isinstance(maps, (list, tuple)) and all(
        isinstance(each, Tensor) and each.dim() == 4 for each in maps
    )
    return tuple(maps) if are_maps else ()


def _run(module: nn.Module, inputs: Tensor | tuple[Tensor, ...]):
    """Outputs of a module in inference; ``None`` if it fails, as it then will in use."""
    with suppress(Exception), eval_mode(module):
        return module(inputs)


def _unfit_settings(model, maps, channels: list[int]) -> Iterator[tuple[str, str]]:
    """Settings of the neck and heads that do not fit, each with the valid ones."""
    neck, head = getattr(model, 'neck', None), getattr(model, 'head', None)
    if neck is None:
        for name, each in _segmentation_heads(model):
            if unfit := unfit_head(each, channels):
                yield f'{name} has {unfit[0]}', unfit[1]
    else:
        taken = _channels_of_neck(neck)
        # Where lists differ, running decides: YOLOV3Neck's begins with the last map, and
        # that of CLRerNetFPN may leave out the first ones.
        if taken not in (None, channels) and _run(neck, maps) is None:
            yield f'neck has in_channels={taken}', f'in_channels must be {channels}'
    taken, last = getattr(head, 'in_channels', None), channels[-1]
    if isinstance(taken, int) and taken != last and (neck is None or _pools(neck, maps)):
        valid = f'in_channels must be {last}, that of the last map'
        yield f'head has in_channels={taken}', valid


def _segmentation_heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        if isinstance(head, nn.ModuleList):
            yield from ((f'{name}[{i}]', each) for i, each in enumerate(head))
        else:
            yield name, head


def _channels_of_neck(neck: nn.Module) -> list[int] | None:
    channels = getattr(neck, 'in_channels', None)
    if channels is None:  # ChannelMapper has convolutions alone
        convs = getattr(neck, 'convs', None) or ()
        channels = [getattr(conv, 'in_channels', None) for conv in convs] or None
    is_list = isinstance(channels, Sequence) and all(isinstance(n, int) for n in channels)
    return list(channels) if is_list else None


def _pools(neck: nn.Module, maps: tuple[Tensor, ...]) -> bool:
    """Whether a neck without weights leaves one number of each channel."""
    if any(True for _ in neck.parameters()):
        return False
    features = _run(neck, maps)
    return isinstance(features, tuple) and features[-1].shape == maps[-1].shape[:2]
