"""Policies: the samples that exit early."""

from collections.abc import Mapping, Sequence
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

    ``forward(logits, exit, point, carried)`` takes the logits of the samples that reached
    an exit and gives booleans (N,), True for each sample that exits, and what is carried
    to the next exit, a tensor of N elements or ``None``.

    Attributes:
        trained_by (str | None): Registry name of the hook that trains a policy.
    """

    trained_by: str | None = None
    _points: tuple[OperatingPoint, ...] = ()

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """One point for each named setting."""
        return self._points

    @staticmethod
    def decision_macs(num_classes: int) -> int:
        """Multiply-adds of one decision, beside those of the exit's logits."""
        return 0

    @torch.no_grad()
    def exits(self, logits: Tensor, point: OperatingPoint) -> Tensor:
        """The exit that each sample takes.

        Args:
            logits (Tensor): Logits (M, N, K) of all samples at each of M exits.
            point (OperatingPoint): One of the policy's operating points.

        Returns:
            Tensor: Indices of the exits (N,), from 0.
        """
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
        super().__init__()
        self.num_exits = num_exits
        if not isinstance(thresholds, Mapping):
            thresholds = dict(adaptive=thresholds)
        self._points = tuple(
            OperatingPoint(
                name, dict(thresholds=_checked_thresholds(name, values, num_exits - 1))
            )
            for name, values in thresholds.items()
        )

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        check_found_thresholds(settings, self.num_exits - 1)

    def forward(
        self, logits: Tensor, exit: int, point: OperatingPoint, carried: None = None
    ) -> tuple[Tensor, None]:
        """Decide for logits (N, K), or (N, K, h, w) of segmented images."""
        return reaches(confidence(logits), point.settings['thresholds'][exit]), None


def confidence(logits: Tensor) -> Tensor:
    """The highest class probability; its mean over the pixels of a map.

    Args:
        logits (Tensor): Logits (N, K), or (N, K, h, w) of maps; a map's single logit is
            that of one class against the rest.

    Returns:
        Tensor: Confidences (N,).
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
    """The exit that each sample takes, given its confidences at all exits.

    Args:
        confidences (np.ndarray): Of shape (M − 1, N).
        thresholds (Sequence[float]): γ of the M − 1 exits before the last.

    Returns:
        np.ndarray: Indices of the exits (N,), from 0.
    """
    stays = ~reaches(confidences, np.asarray(thresholds)[:, None])
    return stays.cumprod(axis=0).sum(axis=0)


def check_found_thresholds(settings: Mapping[str, Any], number: int) -> None:
    """Refuse, by a ``ValueError``, settings that are not thresholds of ``number`` exits."""
    if set(settings) != {'thresholds'}:
        raise ValueError(f"settings need 'thresholds' alone, got {dict(settings)}")
    _checked_thresholds('found', settings['thresholds'], number)


def _checked_thresholds(name: str, values, number: int) -> tuple[float, ...]:
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
