"""Base of multi-exit models of every task: exits as operating points."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from mmdyn.methods.multi_exit.exits import exits_of_levels
from mmdyn.methods.multi_exit.objectives import SumOfExits
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.models.searchable import Searchable
from mmdyn.models.stages import CUTS, Stage, Walk, cuttable
from mmdyn.operating_point import OperatingPoint
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_between


class MultiExitModel(Searchable):
    """Base of models with exits along their ``backbone``.

    Its operating points are ``exit=1`` to ``exit=M``, those of the policy, those that the
    backbone adds for each exit, and those found by a search.

    Attributes:
        backbone (nn.Module): A backbone that ``cut_into_stages`` knows.
        policy (nn.Module): Decides which samples exit early.
        objective (SumOfExits): Gives the training losses.
        exit_stages (tuple[int, ...]): Number (from 1) of the stage before each exit.
        cut (str): ``'stage'`` or ``'block'``: what exits can follow.
    """

    backbone: nn.Module
    policy: nn.Module
    objective: SumOfExits
    exit_stages: tuple[int, ...]
    cut = 'stage'
    checks_channels = True

    def place_exits(self, exits: Sequence[dict] | dict) -> tuple[list[Stage], list[dict]]:
        """Find the stages of the earlier exits, given as to ``MultiExitClassifier``.

        Returns:
            tuple[list[Stage], list[dict]]: The stages of the backbone, and a config for
            each earlier exit.

        Raises:
            ValueError: If exits are missing, out of order or after no stage.
        """
        stages = CUTS[self.cut](self.backbone)
        if isinstance(exits, dict):
            exits = exits_of_levels(exits, len(stages))
        self.exit_stages = (*_checked_exit_stages(exits, len(stages)), len(stages))
        self._backbone_points = cuttable(self.backbone).exit_points(self.exit_stages)
        return stages, exits

    def build_policy(self, policy: dict | nn.Module | None) -> None:
        """Set the policy, after the exits are placed.

        ``None`` stands for one whose only operating points are those found by a search.

        Raises:
            ValueError: If two operating points have one name, or samples cannot take
                different exits.
        """
        if policy is None:
            policy = ConfidencePolicy(self.num_exits, thresholds={})
        elif isinstance(policy, dict):
            policy = MODELS.build({**policy, 'num_exits': self.num_exits})
        self.policy = policy
        if policy.operating_points:
            self.check_adaptive()
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError(f'two operating points have the same name: {names}')

    @property
    def num_exits(self) -> int:
        return len(self.exit_stages)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        fixed = tuple(
            OperatingPoint(f'exit={i}', dict(exit=i))
            for i in range(1, self.num_exits + 1)
        )
        adaptive = self.policy.operating_points
        return fixed + adaptive + self._backbone_points + self.found_points

    @property
    def dense_operating_point(self) -> OperatingPoint:
        """The last exit: the plain model, without the early exits."""
        return self.operating_points[self.num_exits - 1]

    def chooses_exits(self, point: OperatingPoint) -> bool:
        # Settings beside the exit are the backbone's and change its features.
        only_exit = set(point.settings) <= {'exit'} or 'exit' not in point.settings
        offered = point in self.operating_points
        return offered and only_exit and cuttable(self.backbone).draws == 1

    def exits_at(self, point: OperatingPoint, logits: Tensor) -> Tensor:
        """Indices (N,), from 0, of the exits that images take, given logits (M, N, K).

        For points for which :meth:`chooses_exits` is true.
        """
        if 'exit' in point.settings:
            return torch.full((logits.shape[1],), point.settings['exit'] - 1)
        device = next(self.parameters()).device
        return self.policy.exits(logits.to(device), point).cpu()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        if 'thresholds' in settings:
            self.policy.check_settings(settings)
            self.check_adaptive()
            return
        if 'exit' not in settings:
            raise ValueError(
                f"points of a multi-exit model need the setting 'exit', got "
                f'{dict(settings)}'
            )
        check_between('exit', settings['exit'], 1, self.num_exits)
        others = {name: value for name, value in settings.items() if name != 'exit'}
        cuttable(self.backbone).check_exit_settings(others)

    def check_adaptive(self) -> None:
        """Refuse, by a ``ValueError``, a backbone with draws to average at one exit."""
        draws = cuttable(self.backbone).draws
        if draws > 1:
            raise ValueError(
                f'the backbone averages {draws} samples, in all of which an image must '
                f'take the same exit: give either samples or a policy'
            )

    def check_runnable(self, point: OperatingPoint) -> None:
        if 'exit' in point.settings:
            self.parts([point.settings['exit'] - 1], point.settings)

    def parts(
        self,
        exits: Sequence[int],
        settings: Mapping[str, Any] = MappingProxyType({}),
        lazy: bool = False,
    ) -> list[list[Stage]]:
        """The stages to run before each of some exits, given by their indices from 0.

        ``settings`` and ``lazy`` are those of ``Cuttable.stages_for``.
        """
        ends = [self.exit_stages[exit] for exit in exits]
        return cuttable(self.backbone).stages_for(ends, settings, self.cut, lazy)

    def walk(
        self, inputs: Tensor, settings: Mapping[str, Any] = MappingProxyType({})
    ) -> Walk:
        """The walk of images (N, C, H, W) over all exits, without work done ahead."""
        return Walk(self.parts(range(self.num_exits), settings, lazy=True), inputs)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The objective's losses of images (N, C, H, W), named by exit.

        Raises:
            ValueError: If the policy needs training and the objective does not train it.
        """
        trainer = self.policy.trained_by
        if trainer and not self.objective.trains_policy:
            raise ValueError(
                f'a {type(self.policy).__name__} is trained by {trainer}: add it to '
                f'custom_hooks'
            )
        return self.objective.losses(self, inputs, data_samples)

    def logits_at(self, exit: int, features: Tensor) -> Tensor:
        """Logits (N, K, …) of an exit, given its index (from 0) and input features."""
        raise NotImplementedError


def _checked_exit_stages(exits: Sequence[dict], num_stages: int) -> tuple[int, ...]:
    if not exits:
        raise ValueError(
            'exits must hold at least one exit; for none, use the stock model'
        )
    numbers = tuple(cfg.get('stage') for cfg in exits)
    in_range = all(isinstance(n, int) and 1 <= n < num_stages for n in numbers)
    if not in_range or list(numbers) != sorted(set(numbers)):
        raise ValueError(
            f"exits need a rising 'stage' in 1…{num_stages - 1} (the last exit, behind "
            f'stage {num_stages}, is the head), got {list(numbers)}'
        )
    return numbers
