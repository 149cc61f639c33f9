"""Base of multi-exit models of every task: exits as operating points."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdyn.methods.multi_exit.exits import exits_of_levels
from mmdyn.methods.multi_exit.policies import ConfidencePolicy, checked_thresholds
from mmdyn.models.searchable import Searchable
from mmdyn.models.stages import CUTS, NO_SETTINGS, Walk, cuttable
from mmdyn.operating_point import OperatingPoint
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_between, check_choice


class SumOfExits:
    """Objective: the sum of the losses of all exits in training (Lin et al., Eq. 2).

    Any object with these attributes and this method is an objective.
    """

    trains_policy = False  # whether the losses also train the model's policy
    needs_all_exits = False  # whether no exit can be trained without the others

    def losses(self, model, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Losses to be summed, named by exit, of a ``MultiExitModel`` and its batch."""
        return model.losses_of_exits(inputs, data_samples)


class MultiExitModel(Searchable):
    """Base of models with exits along their ``backbone``, trained by an ``objective``.

    Its operating points are ``exit=1`` to ``exit=M``, those of the policy, those that the
    backbone adds for each exit, and those found by a search. ``exit_stages`` are the
    numbers (from 1) of the stages before the exits.
    """

    checks_channels = True
    _objective: Any = None  # that of a hook

    @property
    def objective(self) -> Any:
        """What the exits learn from: that of a hook, the distillation, or the sum."""
        return self._objective or getattr(self, 'distillation', None) or SumOfExits()

    @objective.setter
    def objective(self, objective: Any) -> None:
        self._objective = objective

    def place_exits(self, exits: Sequence | dict, cut='stage') -> tuple[list, list]:
        """The stages of the backbone, and the checked configs of earlier exits."""
        check_choice('cut', cut, tuple(CUTS))
        self.cut = cut
        stages = CUTS[cut](self.backbone)
        last = len(stages)
        if isinstance(exits, dict):
            exits = exits_of_levels(exits, last)
        if not exits:
            raise ValueError('exits need at least one exit; for none use the stock model')
        numbers = [cfg.get('stage') for cfg in exits]
        whole = all(isinstance(number, int) for number in numbers)
        if not whole or numbers != sorted(set(range(1, last)).intersection(numbers)):
            raise ValueError(
                f"exits need a rising 'stage' in 1…{last - 1} (the last exit, behind "
                f'stage {last}, is the head), got {numbers}'
            )
        self.exit_stages = (*numbers, last)
        self.num_exits = len(self.exit_stages)
        self._backbone_points = cuttable(self.backbone).exit_points(self.exit_stages)
        return stages, exits

    def build_policy(self, policy: dict | nn.Module | None) -> None:
        """Set the policy, after the exits are placed; ``None``: only found thresholds."""
        if policy is None:
            policy = dict(type=ConfidencePolicy, thresholds={})
        if isinstance(policy, dict):
            policy = MODELS.build({**policy, 'num_exits': self.num_exits})
        self.policy = policy
        if policy.operating_points:
            self.check_adaptive()
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError(f'two operating points have the same name: {names}')

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        numbers = range(1, self.num_exits + 1)
        fixed = [OperatingPoint(f'exit={i}', dict(exit=i)) for i in numbers]
        adaptive = self.policy.operating_points
        return (*fixed, *adaptive, *self._backbone_points, *self.found_points)

    @property
    def dense_operating_point(self) -> OperatingPoint:
        """The last exit: the plain model, without the early exits."""
        return self.operating_points[self.num_exits - 1]

    def chooses_exits(self, point: OperatingPoint) -> bool:
        # Settings beside the exit are the backbone's and change its features.
        only_exit = 'exit' not in point.settings or len(point.settings) == 1
        offered = only_exit and point in self.operating_points
        return offered and cuttable(self.backbone).draws == 1

    def exits_at(self, point: OperatingPoint, logits: Tensor) -> Tensor:
        """Indices (N,), from 0, of the exits that images take, given logits (M, N, K)."""
        if 'exit' in point.settings:
            return torch.full((logits.shape[1],), point.settings['exit'] - 1)
        device = next(self.parameters()).device
        return self.policy.exits(logits.to(device), point).cpu()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        if 'thresholds' in settings:
            if len(settings) > 1:
                raise ValueError(f"points take 'thresholds' alone, got {dict(settings)}")
            checked_thresholds('found', settings['thresholds'], self.num_exits - 1)
            self.check_adaptive()
            return
        others = dict(settings)
        if 'exit' not in others:
            raise ValueError(f"operating points need the setting 'exit', got {others}")
        check_between('exit', others.pop('exit'), 1, self.num_exits)
        cuttable(self.backbone).check_exit_settings(others)

    def check_adaptive(self) -> None:
        """Refuse, by a ``ValueError``, a backbone with draws to average at one exit."""
        draws = cuttable(self.backbone).draws
        if draws > 1:
            raise ValueError(
                f'the backbone averages {draws} samples: give either samples or a policy'
            )

    def check_runnable(self, point: OperatingPoint) -> None:
        if 'exit' in point.settings:
            self.parts([point.settings['exit'] - 1], point.settings)

    def parts(self, exits: Sequence[int], settings=NO_SETTINGS, lazy=False) -> list:
        """``Cuttable.stages_for`` for exits given by their indices from 0."""
        ends = [self.exit_stages[exit] for exit in exits]
        return cuttable(self.backbone).stages_for(ends, settings, self.cut, lazy)

    def walk(self, inputs: Tensor, settings: Mapping[str, Any] = NO_SETTINGS) -> Walk:
        """The walk of images (N, C, H, W) over all exits, without work done ahead."""
        return Walk(self.parts(range(self.num_exits), settings, lazy=True), inputs)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The objective's losses of images (N, C, H, W), named by exit."""
        trainer = getattr(self.policy, 'trained_by', None)
        if trainer and not self.objective.trains_policy:
            kind = type(self.policy).__name__
            raise ValueError(f'a {kind} is trained by {trainer}: add it to custom_hooks')
        return self.objective.losses(self, inputs, data_samples)

    def logits_at(self, exit: int, features: Tensor) -> Tensor:
        """Logits (N, K, …) of an exit, given its index (from 0) and input features."""
        raise NotImplementedError
