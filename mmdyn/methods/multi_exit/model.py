"""What multi-exit models of every task have in common: exits as operating points."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from mmdyn.methods.multi_exit.objectives import SumOfExits
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.models.searchable import Searchable
from mmdyn.models.stages import CUTS, Stage, Walk, cuttable, take
from mmdyn.operating_point import OperatingPoint
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_between


class MultiExitModel(Searchable):
    """Base of models with exits behind stages of their ``backbone``.

    Its operating points are ``exit=1`` to ``exit=M``, those of the policy, for each
    ``keep`` of an ``mmdyn.CNMM`` ``exit=i,keep=K`` where the exit has more functions, and
    those found by a search.

    Attributes:
        backbone (nn.Module): A backbone that ``cut_into_stages`` knows.
        policy (nn.Module | None): What decides who leaves.
        objective (SumOfExits): What the exits learn from, or another with its method.
        exit_stages (tuple[int, ...]): Number (from 1) of the stage before each exit.
    """

    backbone: nn.Module
    policy: nn.Module | None
    objective: Any
    exit_stages: tuple[int, ...]
    cut = 'stage'

    def cut_backbone(self) -> list[Stage]:
        """The stages that exits can follow; with ``cut = 'block'``, the blocks."""
        return CUTS[self.cut](self.backbone)

    def place_exits(self, exits: Sequence[dict]) -> list[Stage]:
        """Find the stages of exits; the last exit is behind the last one.

        Args:
            exits (Sequence[dict]): Configs of the earlier exits, with their ``stage``.

        Returns:
            list[Stage]: The stages of the backbone.

        Raises:
            ValueError: If exits are missing, out of order or behind no stage.
        """
        stages = self.cut_backbone()
        self.exit_stages = (*_checked_exit_stages(exits, len(stages)), len(stages))
        self._backbone_points = cuttable(self.backbone).exit_points(self.exit_stages)
        return stages

    @property
    def num_exits(self) -> int:
        return len(self.exit_stages)

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        fixed = tuple(
            OperatingPoint(f'exit={i}', dict(exit=i))
            for i in range(1, self.num_exits + 1)
        )
        adaptive = self.policy.operating_points if self.policy else ()
        return fixed + adaptive + self._backbone_points + self.found_points

    @property
    def dense_operating_point(self) -> OperatingPoint:
        """Everything runs but the early exits: the plain model."""
        return self.operating_points[self.num_exits - 1]

    checks_channels = True

    def chooses_exits(self, point: OperatingPoint) -> bool:
        backbone_decides = (
            set(point.settings) - {'exit'} if 'exit' in point.settings else ()
        )
        draws = cuttable(self.backbone).draws
        return point in self.operating_points and not backbone_decides and draws == 1

    def exits_at(self, point: OperatingPoint, logits: Tensor) -> Tensor:
        """The exit that each image takes at a point, given the logits of all exits.

        Args:
            point (OperatingPoint): One for which :meth:`chooses_exits` is true.
            logits (Tensor): Logits (M, N, K).

        Returns:
            Tensor: Places of the exits (N,), from 0.
        """
        if 'exit' in point.settings:
            exit = point.settings['exit'] - 1
            return torch.full((logits.shape[1],), exit)
        device = next(self.parameters()).device
        return self.policy.exits(logits.to(device), point).cpu()

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        if 'thresholds' in settings and self.policy:
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
        """Check that images can leave at several exits.

        Raises:
            ValueError: If draws of the mixing weights are to be averaged.
        """
        if cuttable(self.backbone).draws > 1:
            raise ValueError(
                'with samples of the mixing weights to average, an image must leave all '
                'of them at one exit: give either samples or a policy'
            )

    def check_runnable(self, point: OperatingPoint) -> None:
        if 'exit' in point.settings:
            self.parts([point.settings['exit'] - 1], point.settings)

    def parts(
        self,
        exits: Sequence[int],
        settings: Mapping = MappingProxyType({}),
        lazy: bool = False,
    ) -> list[list[Stage]]:
        """The stages to run before each of some exits, from the one before it.

        A backbone that can be carved is reduced to what these exits and the settings of
        the operating point need.

        Args:
            exits (Sequence[int]): Places of the exits, from 0.
            settings (Mapping): Of the operating point.
            lazy (bool): As of :meth:`mmdyn.models.backbones.CNMM.subnetwork`.
        """
        ends = [self.exit_stages[exit] for exit in exits]
        return cuttable(self.backbone).stages_for(ends, settings, self.cut, lazy)

    def build_policy(self, policy: dict | nn.Module | None) -> None:
        """Set the policy, when the exits are placed.

        Args:
            policy (dict | nn.Module | None): A policy or its config; ``None``: one that
                has no operating points but those found by a search.

        Raises:
            ValueError: If two operating points then have one name, or the model cannot
                let images leave at several exits.
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

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Ask the objective for the losses of a batch.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list): Their annotations.

        Returns:
            dict[str, Tensor]: Losses, named by exit.

        Raises:
            ValueError: If the policy has to be trained, and nothing trains it.
        """
        trainer = self.policy.trained_by
        if trainer and isinstance(self.objective, SumOfExits):
            raise ValueError(
                f'a {type(self.policy).__name__} is trained by {trainer}: add it to '
                f'custom_hooks'
            )
        return self.objective.losses(self, inputs, data_samples)

    def logits_at(self, exit: int, features: Tensor) -> Tensor:
        """Compute the logits of one exit.

        Args:
            exit (int): Place of the exit, from 0.
            features (Tensor): Features of the stage before it.

        Returns:
            Tensor: Logits (N, K, …).
        """
        raise NotImplementedError

    def run_to_exits(
        self,
        inputs: Tensor,
        finish: Callable[[int, Tensor], Tensor] = lambda exit, logits: logits,
    ) -> tuple[Tensor, Tensor]:
        """Run images at the active operating point; those that leave are out.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            finish (Callable): What is done, by the exit's place, with the logits of the
                images that leave; it must give those of all exits one size.

        Returns:
            tuple[Tensor, Tensor]: Logits (N, K, …), and the number of the exit (N,),
            from 1, that each image's come from.
        """
        point = self.operating_point
        if 'exit' not in point.settings:
            return self._run_adaptively(inputs, point, finish)
        exit = point.settings['exit']
        parts = self.parts([exit - 1], point.settings)

        def logits_of_one_draw() -> Tensor:
            features = next(Walk(parts, inputs))
            return finish(exit - 1, self.logits_at(exit - 1, features))

        logits = self.average_of_draws(logits_of_one_draw)
        return logits, torch.full((len(logits),), exit, device=logits.device)

    def _run_adaptively(self, x, point, finish) -> tuple[Tensor, Tensor]:
        waiting = torch.arange(len(x), device=x.device)  # places of the images
        logits, places, exits, carried = [], [], [], None
        parts = self.parts(range(self.num_exits), point.settings, lazy=True)
        walk = Walk(parts, x)
        for exit, features in enumerate(walk):
            scores = self.logits_at(exit, features)
            leaves = torch.ones_like(waiting, dtype=torch.bool)
            if exit < self.num_exits - 1:
                leaves, carried = self.policy(scores, exit, point, carried)
            places.append(waiting[leaves])
            exits.append(torch.full_like(places[-1], exit + 1))
            logits.append(finish(exit, scores[leaves]))
            if len(places[-1]) == len(waiting):
                break
            if len(places[-1]):
                stay = ~leaves
                waiting, carried = waiting[stay], take(carried, stay)
                walk.keep(stay)
        order = torch.cat(places).argsort()
        return torch.cat(logits)[order], torch.cat(exits)[order]

    def average_of_draws(self, logits_of_one: Callable[[], Tensor]) -> Tensor:
        """Logits whose class probabilities are the average over the backbone's draws.

        Args:
            logits_of_one (Callable[[], Tensor]): Runs the model once; logits (N, K, …),
                of one class against the rest if K is 1.

        Returns:
            Tensor: Logits (N, K, …); those of one run where nothing is to be averaged.
        """
        draws = cuttable(self.backbone).draws
        if draws == 1:
            return logits_of_one()
        logits = torch.stack([logits_of_one() for _ in range(draws)])
        # In logarithms: the average of small probabilities must not become 0.
        if logits.shape[2] == 1:
            return logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)
        return logits.log_softmax(dim=2).logsumexp(0) - math.log(draws)


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
