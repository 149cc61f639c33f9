"""Policies: the samples that exit early."""

from collections.abc import Mapping, Sequence
from itertools import starmap
from numbers import Real
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmdyn.models.stages import take
from mmdyn.operating_point import OperatingPoint
from mmdyn.registry import MODELS


class Policy(BaseModule):
    """Base of policies: compares confidences with thresholds, as found points do.

    ``settings`` are those of its operating points by their names.
    """

    trained_by: str | None = None  # registry name of the hook that trains the policy

    def __init__(self, num_exits: int, settings: Mapping, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.num_exits = num_exits
        self.operating_points = tuple(starmap(OperatingPoint, settings.items()))

    def forward(self, logits: Tensor, exit: int, point: OperatingPoint, carried=None):
        """Decide for the samples that reached an exit but the last.

        Args:
            logits (Tensor): Logits (N, K), or (N, K, h, w) of segmented images.
            exit (int): Index of the exit, from 0.
            point (OperatingPoint): The active operating point.
            carried (Tensor | None): From the exit before, (N,).

        Returns:
            tuple: Booleans (N,), True for samples that exit, and the next ``carried``.
        """
        return confidence(logits) >= point.settings['thresholds'][exit], None

    @torch.no_grad()
    def exits(self, logits: Tensor, point: OperatingPoint) -> Tensor:
        """Indices (N,), from 0, of the exits that samples take, of logits (M, N, K)."""
        exits = logits.new_zeros(logits.shape[1], dtype=torch.long)
        waiting, carried = torch.arange(len(exits), device=exits.device), None
        for exit, each in enumerate(logits[:-1]):
            leaves, carried = self(each[waiting], exit, point, carried)
            waiting, carried = waiting[~leaves], take(carried, ~leaves)
            exits[waiting] = exit + 1
        return exits


@MODELS.register_module()
class ConfidencePolicy(Policy):
    """A sample takes exit i when its highest class probability reaches γ_i.

    Lin et al., section III-C. For a segmented image, it is the mean over the pixels. The
    last exit takes all samples that reach it.

    Args:
        num_exits (int): Number of exits, the last included.
        thresholds (float | Sequence[float] | Mapping): γ of every exit but the last, in
            (0, 1], or one number for all; a ValueError otherwise. A mapping names several
            operating points; a single one is named ``adaptive``.

    Example:
        >>> policy = dict(
        ...     type='mmdyn.ConfidencePolicy',
        ...     thresholds=dict(quick=0.6, careful=(0.95, 0.9, 0.9)))
    """

    def __init__(self, num_exits: int, thresholds: float | Sequence[float] | Mapping):
        settings = {
            name: dict(thresholds=checked_thresholds(name, values, num_exits - 1))
            for name, values in named(thresholds).items()
        }
        super().__init__(num_exits, settings)


def confidence(logits: Tensor) -> Tensor:
    """Highest class probability (N,) of logits (N, K), or its mean over (N, K, h, w)."""
    if logits.dim() == 2:
        return logits.softmax(dim=1).amax(dim=1)
    if logits.shape[1] == 1:  # one class against the rest
        return logits.abs().sigmoid().mean(dim=(1, 2, 3))
    return logits.softmax(dim=1).amax(dim=1).mean(dim=(1, 2))


def exits_by_confidence(confidences: np.ndarray, thresholds: Sequence) -> np.ndarray:
    """Indices (N,) of the exits that samples take, given confidences (M − 1, N)."""
    stays = ~(confidences >= np.asarray(thresholds)[:, None])
    return stays.cumprod(axis=0).sum(axis=0)


def named(thresholds: Any) -> Mapping[str, Any]:
    """Thresholds by name; a single setting is named ``adaptive``."""
    return thresholds if isinstance(thresholds, Mapping) else dict(adaptive=thresholds)


def checked_thresholds(name: str, values, number: int) -> tuple[float, ...]:
    if isinstance(values, Real):
        values = (values,) * number
    if not (isinstance(values, Sequence) and all(isinstance(v, Real) for v in values)):
        problem = f'must be numbers, got {values!r}'
    elif len(values) != number:
        got = f'got {len(values)}: {values}'
        problem = f'need {number} values, one for each exit but the last, {got}'
    elif not all(0 < v <= 1 for v in values):
        problem = f'must lie in (0, 1], got {values}'
    else:
        return tuple(map(float, values))
    raise ValueError(f'thresholds {name!r} {problem}')
