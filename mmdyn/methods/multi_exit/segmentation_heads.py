"""Heads of a segmentor with exits: building them and checking that they fit."""

from inspect import signature

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn

from mmdyn.engine.channels import unfit_head
from mmdyn.models.stages import Stage
from mmdyn.registry import MODELS


def build_head(cfg: dict, stage: Stage, num_classes: int, out_channels: int) -> nn.Module:
    """The head of an exit; an identity where it shares the decode head."""
    if unknown := sorted(set(cfg) - {'stage', 'head', 'level'}):
        raise ValueError(f"exits have a 'stage', a 'head' and 'levels', got {unknown}")
    if cfg.get('head') is None:
        return nn.Identity()
    filled = dict(
        in_channels=stage.out_channels, num_classes=num_classes, out_channels=out_channels
    )
    if 'level' in cfg:
        with MODELS.switch_scope_and_registry(None) as registry:
            head_type = registry.get(cfg['head']['type'])
        if 'num_convs' not in signature(head_type).parameters:
            kind = head_type.__name__
            raise ValueError(
                f'levels are the num_convs of an FCNHead, which a {kind} does not have'
            )
        filled['num_convs'] = cfg['level']
    return MODELS.build({**filled, **cfg['head']})


def check_heads(model: nn.Module, stages: list[Stage]) -> None:
    """Refuse, by a ``ValueError``, heads that do not fit stages or decode head."""
    channels = [stage.out_channels for stage in stages]
    for exit, number in enumerate(model.exit_stages, 1):
        if problem := _problem(model, model.head_at(exit - 1), number, channels):
            raise ValueError(f'the head of exit {exit}{problem}')
    if model.with_auxiliary_head:
        heads = model.auxiliary_head
        for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
            if unfit := unfit_head(head, channels):
                problem, valid = unfit
                raise ValueError(
                    f'auxiliary_head has {problem}, the stages give {channels}: {valid}'
                )


def _problem(model, head: nn.Module, number: int, channels: list[int]) -> str | None:
    """The reason why a head does not fit the stage of a number (from 1)."""
    if not isinstance(head, BaseDecodeHead) or head.input_transform is not None:
        kind = type(head).__name__
        return f', a {kind}, must be an mmseg head that takes one map, such as FCNHead'
    if (index := head.in_index) not in (-1, number - 1):
        return f' has in_index={index}, at stage {number} it must be -1 or {number - 1}'
    if (taken := head.in_channels) != (given := channels[number - 1]):
        return f' has in_channels={taken}, but stage {number} gives {given}'
    classes, outputs = model.num_classes, model.out_channels
    if (head.num_classes, head.out_channels) != (classes, outputs):
        return (
            f' has num_classes={head.num_classes} and out_channels={head.out_channels}, '
            f'the decode head {classes} and {outputs}'
        )
    return None
