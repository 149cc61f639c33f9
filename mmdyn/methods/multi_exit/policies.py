"""Policies: which samples leave at an exit."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from mmdyn.models.stages import take
from mmdyn.operating_point import OperatingPoint
from mmdyn.registry import MODELS


class Policy(BaseModule):
    """Base of policies: which samples leave at an exit, one exit after the other.

    Attributes:
        trained_by (str | None): What trains a policy that learns.
    """

    trained_by: str | None = None

    @staticmethod
    def decision_macs(num_classes: int) -> int:
        """Multiply-adds of deciding behind one exit, beside those of its logits."""
        return 0

    @torch.no_grad()
    def exits(self, logits: Tensor, point: OperatingPoint) -> Tensor:
        """The exit that each sample takes.

        Args:
            logits (Tensor): Logits (M, N, K) of all samples at each of M exits.
            point (OperatingPoint): One of the policy's operating points.

        Returns:
            Tensor: Places of the exits (N,), from 0.
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
    """A sample leaves at exit i when its highest class probability reaches γ_i.

    Lin et al., section III-C. Of a segmented image it is the mean over the pixels that
    has to. The last exit takes all that get there.

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

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """One point a named setting."""
        return self._points

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """As :func:`check_found_thresholds`."""
        check_found_thresholds(settings, self.num_exits - 1)

    def forward(
        self, logits: Tensor, exit: int, point: OperatingPoint, carried: None = None
    ) -> tuple[Tensor, None]:
        """Decide who leaves.

        Args:
            logits (Tensor): Logits (N, K), or (N, K, h, w) of segmented images, of the
                samples that reached the exit.
            exit (int): Place of the exit, from 0; not the last.
            point (OperatingPoint): One of :attr:`operating_points`.
            carried (None): What a policy hands on to the next exit; nothing here.

        Returns:
            tuple[Tensor, None]: Booleans (N,), True for each sample that leaves, and
            what is carried to the next exit: a tensor of N elements or nothing.
        """
        return is_confident(logits, point.settings['thresholds'][exit]), None


def is_confident(logits: Tensor, threshold: float) -> Tensor:
    """Whether the :func:`confidence` (N,) of logits reaches a threshold."""
    return confidence(logits) >= threshold


def confidence(logits: Tensor) -> Tensor:
    """The highest class probability, of maps its mean over the pixels.

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


def check_found_thresholds(settings: Mapping[str, Any], number: int) -> None:
    """Check the settings of a point that a search found.

    Args:
        settings (Mapping): The settings.
        number (int): Exits but the last.

    Raises:
        ValueError: If they are not thresholds of these exits.
    """
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
