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
    """Base of policies, which decide at one exit after the other.

    The base compares confidences with thresholds, as points found by a search do.

    Args:
        num_exits (int): Number of exits M, the last included.
        settings (Mapping[str, Mapping]): Settings by the names of operating points.
        init_cfg (dict | None): Initialisation.

    Attributes:
        operating_points (tuple[OperatingPoint, ...]): One point for each named setting.
        trained_by (str | None): Registry name of the hook that trains the policy.
    """

    trained_by: str | None = None

    def __init__(
        self,
        num_exits: int,
        settings: Mapping[str, Mapping],
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.num_exits = num_exits
        self.operating_points = tuple(starmap(OperatingPoint, settings.items()))

    def forward(
        self,
        logits: Tensor,
        exit: int,
        point: OperatingPoint,
        carried: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Decide for the samples that reached an exit.

        Args:
            logits (Tensor): Logits (N, K), or (N, K, h, w) of segmented images.
            exit (int): Index of the exit, from 0; not the last.
            point (OperatingPoint): The active operating point.
            carried (Tensor | None): Of the exit before, (N,).

        Returns:
            tuple[Tensor, Tensor | None]: Booleans (N,), True for each sample that exits,
            and what is carried to the next exit.
        """
        return reaches(confidence(logits), point.settings['thresholds'][exit]), None

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Refuse, by a ``ValueError``, settings that are not thresholds of confidence."""
        if set(settings) != {'thresholds'}:
            raise ValueError(f"settings need 'thresholds' alone, got {dict(settings)}")
        checked_thresholds('found', settings['thresholds'], self.num_exits - 1)

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

    Lin et al., section III-C. For a segmented image, the mean over its pixels is
    compared. The last exit takes all samples that reach it.

    Args:
        num_exits (int): Number of exits, the last included.
        thresholds (float | Sequence[float] | Mapping): γ of every exit but the last, in
            (0, 1], or one number for all of them. A mapping names several settings, each
            of which becomes an operating point; a single one is named ``adaptive``.

    Raises:
        ValueError: If there is not one threshold for each exit but the last, or one lies
            outside (0, 1].

    Example:
        >>> policy = dict(
        ...     type='mmdyn.ConfidencePolicy',
        ...     thresholds=dict(quick=0.6, careful=(0.95, 0.9, 0.9)))
    """

    def __init__(
        self,
        num_exits: int,
        thresholds: float | Sequence[float] | Mapping[str, float | Sequence[float]],
    ):
        settings = {
            name: dict(thresholds=checked_thresholds(name, values, num_exits - 1))
            for name, values in named(thresholds).items()
        }
        super().__init__(num_exits, settings)


def confidence(logits: Tensor) -> Tensor:
    """Highest class probability (N,) of logits (N, K), or (N, K, h, w) of maps.

    Of a map, it is the mean over the pixels; K = 1 is one class against the rest.
    """
    if logits.dim() == 2:
        return logits.softmax(dim=1).amax(dim=1)
    if logits.shape[1] == 1:
        return logits.abs().sigmoid().mean(dim=(1, 2, 3))
    return logits.softmax(dim=1).amax(dim=1).mean(dim=(1, 2))


def reaches(confidences, threshold):
    """The exit rule, for tensors and arrays alike: True where a sample exits."""
    return confidences >= threshold


def exits_by_confidence(
    confidences: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    """Indices (N,) of the exits that samples take, given confidences (M − 1, N)."""
    stays = ~reaches(confidences, np.asarray(thresholds)[:, None])
    return stays.cumprod(axis=0).sum(axis=0)


def named(thresholds: Any) -> Mapping[str, Any]:
    """Thresholds by name; a single setting is named ``adaptive``."""
    return thresholds if isinstance(thresholds, Mapping) else dict(adaptive=thresholds)


def checked_thresholds(name: str, values, number: int) -> tuple[float, ...]:
    if isinstance(values, Real):
        values = (values,) * number
    if not (isinstance(values, Sequence) and all(isinstance(v, Real) for v in values)):
        raise ValueError(f'thresholds {name!r} must be numbers, got {values!r}')
    values = tuple(map(float, values))
    if len(values) != number:
        raise ValueError(
            f'thresholds {name!r} need {number} values, one for each exit but the '
            f'last, got {len(values)}: {values}'
        )
    if not all(0 < v <= 1 for v in values):
        raise ValueError(f'thresholds {name!r} must lie in (0, 1], got {values}')
    return values
