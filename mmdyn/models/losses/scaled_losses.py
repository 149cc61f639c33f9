"""Weighing what a model returns as its losses."""

from __future__ import annotations

from torch import Tensor

__all__ = ['scaled_losses']


def scaled_losses(losses: dict, factor: float) -> dict:
    """The same with every loss multiplied; values that are not losses stay."""
    return {
        name: _scale(value, factor) if 'loss' in name else value
        for name, value in losses.items()
    }


def _scale(value: Tensor | list[Tensor], factor: float):
    return (
        [v * factor for v in value]
        if isinstance(value, (list, tuple))
        else value * factor
    )
