"""Heads of a segmentor with exits: building them and checking that they fit."""

from inspect import signature

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn

from mmdyn.engine.channels import unfit_head
from mmdyn.models.stages import Stage
from mmdyn.registry import MODELS


def build_head(cfg: dict, stage: Stage, num_classes: int, out_channels: int) -> nn.Module:
    """Build the head of an exit; an identity where it shares the decode head.

    Raises:
        ValueError: For unknown keys, or levels of a head without ``num_convs``.
    """
    unknown = set(cfg) - {'stage', 'head', 'level'}
    if unknown:
        raise ValueError(
            f"exits have a 'stage', a 'head' and, in its place, 'levels', got "
            f'{sorted(unknown)}'
        )
    if cfg.get('head') is None:
        return nn.Identity()
    filled = dict(
        in_channels=stage.out_channels, num_classes=num_classes, out_channels=out_channels
    )
    if 'level' in cfg:
        with MODELS.switch_scope_and_registry(None) as registry:
            head_type = registry.get(cfg['head']['type'])
        if 'num_convs' not in signature(head_type).parameters:
            raise ValueError(
                f'levels are numbers of convolutions, num_convs of an FCNHead, which a '
                f'{head_type.__name__} does not have'
            )
        filled['num_convs'] = cfg['level']
    return MODELS.build({**filled, **cfg['head']})


def check_heads(model: nn.Module, stages: list[Stage]) -> None:
    """Refuse, by a ``ValueError``, heads of a segmentor that do not fit.

    Each takes the features of its stage, and all give logits of the same shape.
    """
    for exit, number in enumerate(model.exit_stages, 1):
        head = model.head_at(exit - 1)
        _check_input(head, exit, number, stages[number - 1])
        classes, channels = model.num_classes, model.out_channels
        if (head.num_classes, head.out_channels) != (classes, channels):
            raise ValueError(
                f'the head of exit {exit} has num_classes={head.num_classes} and '
                f'out_channels={head.out_channels}, the decode head {classes} and '
                f'{channels}'
            )
    if model.with_auxiliary_head:
        heads, channels = model.auxiliary_head, [stage.out_channels for stage in stages]
        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            if unfit := unfit_head(head, channels):
                problem, valid = unfit
                raise ValueError(
                    f'auxiliary_head has {problem}, but the stages give {channels}: '
                    f'{valid}'
                )


def _check_input(head: nn.Module, exit: int, number: int, stage: Stage) -> None:
    """Check the head of an exit, which follows the stage of a number (from 1)."""
    if not isinstance(head, BaseDecodeHead) or head.input_transform is not None:
        raise ValueError(
            f'the head of exit {exit}, a {type(head).__name__}, must be an mmseg head '
            f'that takes one map and gives one, such as FCNHead'
        )
    if head.in_index not in (-1, number - 1):
        raise ValueError(
            f'the head of exit {exit} has in_index={head.in_index}, but takes the '
            f'features of stage {number}: in_index must be -1 or {number - 1}'
        )
    if head.in_channels != stage.out_channels:
        raise ValueError(
            f'the head of exit {exit} has in_channels={head.in_channels}, but stage '
            f'{number} gives {stage.out_channels}'
        )
