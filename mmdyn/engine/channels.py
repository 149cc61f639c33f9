"""Check that the neck and heads of a model take the channels that its backbone gives."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmdyn.models.backbone import Backbone
from mmdyn.utils.eval_mode import eval_mode

SIZE = 64
"""Height and width of the image to try, in pixels."""


class Given(NamedTuple):
    """What a backbone gives.

    Args:
        backbone (str): Its name.
        maps (tuple[Tensor, ...]): Its features of one image, (1, C, H, W) each.
    """

    backbone: str
    maps: tuple[Tensor, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(features.shape[1] for features in self.maps)

    def refusal(self, problem: str, valid: str) -> ValueError:
        return ValueError(
            f'model.{problem}, but the {self.backbone} gives {self.channels}: {valid}'
        )


def check_channels(model: nn.Module) -> None:
    """Check a model with a backbone of mmdyn, which runs once, on a small image.

    Compared are lists of channels of necks such as FPN and, without a neck, those of
    mmseg's heads and of mmpretrain's behind global average pooling; what is made in
    other ways is not checked. A multi-exit model checks its exits itself.

    Args:
        model (nn.Module): A model, not wrapped. Its state does not change.

    Raises:
        ValueError: If channels differ, or a head asks for a map that is not there.
    """
    backbone = getattr(model, 'backbone', None)
    if getattr(model, 'checks_channels', False) or not isinstance(backbone, Backbone):
        return
    maps = _maps_of(backbone)
    if maps is None:
        return
    given = Given(type(backbone).__name__, maps)
    neck = getattr(model, 'neck', None)
    if neck is not None:
        _check_neck(neck, given)
    else:
        for name, head in _segmentation_heads(model):
            if unfit := unfit_head(head, given.channels):
                problem, valid = unfit
                raise given.refusal(f'{name} has {problem}', valid)
    _check_classification_head(getattr(model, 'head', None), neck, given)


def unfit_head(head: nn.Module, channels: Sequence[int]) -> tuple[str, str] | None:
    """Compare what an mmseg head takes with maps.

    Args:
        head (nn.Module): The head; others than mmseg's are not checked.
        channels (Sequence[int]): Channels of the maps that it can choose from.

    Returns:
        tuple[str, str] | None: The head's setting that does not fit, and the valid ones;
        ``None`` if it fits.
    """
    try:
        index, taken, transform = head.in_index, head.in_channels, head.input_transform
    except AttributeError:  # not one of the heads that are told which maps to take
        return None
    number = len(channels)
    indices = [index] if isinstance(index, int) else index
    if not all(-number <= i < number for i in indices):
        return f'in_index={index}', f'in_index must lie in {-number}…{number - 1}'
    # A head that concatenates keeps only the sum of its in_channels.
    concatenates = transform == 'resize_concat'
    setting = 'sum(in_channels)' if concatenates else 'in_channels'
    valid = [channels[i] for i in indices]
    if concatenates:
        valid = sum(valid)
    elif transform is None:
        valid = valid[0]
    taken = taken if isinstance(taken, int) else list(taken)
    if taken == valid:
        return None
    return f'{setting}={taken} for in_index={index}', f'{setting} must be {valid}'


def _segmentation_heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        if isinstance(head, nn.ModuleList):
            yield from ((f'{name}[{i}]', each) for i, each in enumerate(head))
        elif head is not None:
            yield name, head


def _maps_of(backbone: Backbone) -> tuple[Tensor, ...] | None:
    """What a backbone gives at the active operating point, if that is maps."""
    stem = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    if stem is None:
        return None
    image = stem.weight.new_zeros(1, stem.in_channels, SIZE, SIZE)
    # A backbone may draw random numbers in inference, too.
    with torch.random.fork_rng([image.device] if image.is_cuda else []):
        maps = _run(backbone, image)
    are_maps = isinstance(maps, Sequence) and all(
        isinstance(each, Tensor) and each.dim() == 4 for each in maps
    )
    return tuple(maps) if are_maps else None


def _run(module: nn.Module, inputs: Tensor | tuple[Tensor, ...]):
    """What a module gives in inference; ``None`` if it fails."""
    try:
        with eval_mode(module):
            return module(inputs)
    except Exception:  # using the model fails in the same way, with a trace
        return None


def _check_neck(neck: nn.Module, given: Given) -> None:
    taken, valid = _channels_of_neck(neck), list(given.channels)
    # Where lists differ, running decides: YOLOV3Neck's begins with the last map, and that
    # of CLRerNetFPN may leave out the first ones.
    if taken is not None and taken != valid and _run(neck, given.maps) is None:
        problem = f'neck has in_channels={taken}'
        raise given.refusal(problem, f'in_channels must be {valid}')


def _channels_of_neck(neck: nn.Module) -> list[int] | None:
    channels = getattr(neck, 'in_channels', None)
    if channels is None:  # ChannelMapper has convolutions alone
        convs = getattr(neck, 'convs', None) or [None]
        channels = [getattr(conv, 'in_channels', None) for conv in convs]
    is_list = isinstance(channels, Sequence) and all(isinstance(n, int) for n in channels)
    return list(channels) if is_list else None


def _check_classification_head(head, neck: nn.Module | None, given: Given) -> None:
    taken, valid = getattr(head, 'in_channels', None), given.channels[-1]
    if not isinstance(taken, int) or taken == valid:
        return
    if neck is None or _pools(neck, given):
        problem = f'head has in_channels={taken}'
        raise given.refusal(problem, f'in_channels must be {valid}, that of the last map')


def _pools(neck: nn.Module, given: Given) -> bool:
    """Whether a neck leaves one number of each channel, unlike one that flattens maps."""
    if any(True for _ in neck.parameters()):
        return False
    features = _run(neck, given.maps)
    return isinstance(features, tuple) and features[-1].shape == given.maps[-1].shape[:2]
