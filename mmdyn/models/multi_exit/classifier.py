"""A classifier that can answer before its backbone has run to the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmpretrain.models import ClsHead, ImageClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmdyn.operating_point import DynamicModule, OperatingPoint
from mmdyn.registry import MODELS

from .exits import Exit
from .stages import cut_into_stages

__all__ = ['MultiExitClassifier']


@MODELS.register_module()
class MultiExitClassifier(DynamicModule, ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with exits along its backbone.

    Backbone, neck and head are those of the stock classifier, under the same names: the
    neck and head are the last exit, and a stock checkpoint fills all three. In training
    all exits are trained together (Lin et al., Eq. 2: the sum of their losses). In
    inference work really stops: samples that leave are out of the batch, later stages
    see only the rest, and where nobody is left no further stage runs.

    Its operating points are ``exit=1`` to ``exit=M``, at which all samples leave at that
    exit and no other exit is computed, and those of the policy. Predictions carry
    ``exit_index``, the number (from 1) of the exit they come from.

    Args:
        backbone (dict | nn.Module): A backbone that ``cut_into_stages`` knows.
        head (dict | nn.Module): mmpretrain head of the last exit, a ``ClsHead`` with
            ``num_classes``; its loss serves all exits.
        exits (Sequence[dict]): Configs of the earlier exits from first to last. In each,
            ``stage`` is the number (from 1) of the stage that the exit follows; channels
            and classes are filled in where the config is silent.
        policy (dict | nn.Module | None): Config of what decides who leaves, for example
            ``mmdyn.ConfidencePolicy``. ``None``: only fixed exits.
        neck (dict | nn.Module | None): Neck of the last exit.
        pretrained (str | None): Checkpoint to start from.
        train_cfg (dict | None): Batch augmentations, as in ``ImageClassifier``.
        data_preprocessor (dict | nn.Module | None): As in ``ImageClassifier``.
        init_cfg (dict | list | None): Initialisation.

    Raises:
        ValueError: If exits are missing, out of order, behind no stage or of another
            number of classes than the head, or two operating points have one name.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        head: dict | nn.Module,
        exits: Sequence[dict],
        policy: dict | nn.Module | None = None,
        neck: dict | nn.Module | None = None,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            pretrained=pretrained,
            train_cfg=train_cfg,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        if not (isinstance(self.head, ClsHead) and hasattr(self.head, 'num_classes')):
            raise ValueError(
                f'head must be a classification head with num_classes, for example '
                f'LinearClsHead, got {type(self.head).__name__}'
            )
        stages = cut_into_stages(self.backbone)
        self.exit_stages = _checked_exit_stages(exits, len(stages))
        self.exits = nn.ModuleList(
            self._build_exit(cfg, stages[number - 1], stages[-2])
            for cfg, number in zip(exits, self.exit_stages)
        )
        self.num_exits = len(exits) + 1
        self.policy = self._build_policy(policy)
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError(f'two operating points have the same name: {names}')

    def _build_exit(self, cfg, stage, last_branch) -> nn.Module:
        arguments = {k: v for k, v in cfg.items() if k not in ('stage', 'type')}
        name = cfg.get('type')
        exit_type = MODELS.get(name) if isinstance(name, str) else name
        if not (isinstance(exit_type, type) and issubclass(exit_type, Exit)):
            raise ValueError(
                f'exits need the type of an exit, for example mmdyn.LinearExit or '
                f'mmdyn.SEBottleneckExit, got {name!r}'
            )
        num_classes = arguments.setdefault('num_classes', self.head.num_classes)
        if num_classes != self.head.num_classes:
            raise ValueError(
                f'all exits need the {self.head.num_classes} classes of the head, got '
                f'{num_classes}'
            )
        return exit_type(**{**exit_type.arguments_at(stage, last_branch), **arguments})

    def _build_policy(self, policy) -> nn.Module | None:
        if isinstance(policy, dict):
            return MODELS.build({**policy, 'num_exits': self.num_exits})
        return policy

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        fixed = tuple(
            OperatingPoint(f'exit={i}', dict(exit=i))
            for i in range(1, self.num_exits + 1)
        )
        return fixed + (self.policy.operating_points if self.policy else ())

    @property
    def dense_operating_point(self) -> OperatingPoint:
        """Everything runs but the early exits: the plain classifier."""
        return self.operating_points[self.num_exits - 1]

    def _logits_at(self, exit: int, features: Tensor) -> Tensor:
        """Logits (N, K) of exit ``exit``, from 0, given its stage's features."""
        if exit < len(self.exits):
            return self.exits[exit](features)
        features = (features,)
        return self.head(self.neck(features) if self.with_neck else features)

    def _parts(self) -> list[list]:
        """The stages to run before each exit, from the exit before it."""
        stages = [stage.forward for stage in cut_into_stages(self.backbone)]
        cuts = [0, *self.exit_stages, len(stages)]
        return [stages[start:end] for start, end in zip(cuts, cuts[1:])]

    def infer(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Run at the operating point in force.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: Logits (N, K), and the number of the exit (N,), from 1,
            that each sample's logits come from.
        """
        point = self.operating_point
        if 'exit' in point.settings:
            return self._infer_fixed(inputs, point.settings['exit'])
        return self._infer_adaptive(inputs, point)

    def _infer_fixed(self, x: Tensor, exit: int) -> tuple[Tensor, Tensor]:
        for part in self._parts()[:exit]:
            for stage in part:
                x = stage(x)
        logits = self._logits_at(exit - 1, x)
        return logits, torch.full((len(x),), exit, device=x.device)

    def _infer_adaptive(self, x: Tensor, point) -> tuple[Tensor, Tensor]:
        waiting = torch.arange(len(x), device=x.device)  # places of x's samples
        logits, places, exits = [], [], []
        for exit, part in enumerate(self._parts()):
            for stage in part:
                x = stage(x)
            scores = self._logits_at(exit, x)
            leaves = torch.ones_like(waiting, dtype=torch.bool)
            if exit < self.num_exits - 1:
                leaves = self.policy(scores, exit, point)
            logits.append(scores[leaves])
            places.append(waiting[leaves])
            exits.append(torch.full_like(places[-1], exit + 1))
            if len(places[-1]) == len(waiting):
                break
            if len(places[-1]):
                x, waiting = _keep(x, ~leaves), waiting[~leaves]
        order = torch.cat(places).argsort()
        return torch.cat(logits)[order], torch.cat(exits)[order]

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None = None,
        mode: str = 'tensor',
    ):
        """As in ``ImageClassifier``; ``mode='tensor'`` gives logits (N, K)."""
        if mode == 'tensor':
            return self.infer(inputs)[0]
        return super().forward(inputs, data_samples, mode)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Compute the losses of all exits.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list[DataSample]): Their annotations.

        Returns:
            dict[str, Tensor]: What the head gives for each exit's logits, with names like
            ``exit1.loss``.
        """
        losses, x = {}, inputs
        for exit, part in enumerate(self._parts()):
            for stage in part:
                x = stage(x)
            logits = self._logits_at(exit, x)
            for name, value in self.head._get_loss(logits, data_samples).items():
                losses[f'exit{exit + 1}.{name}'] = value
        return losses

    def predict(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None
    ) -> list[DataSample]:
        """Predict at the operating point in force.

        Args:
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list[DataSample] | None): Samples to write predictions to.

        Returns:
            list[DataSample]: Samples with scores, label and ``exit_index``.
        """
        logits, exits = self.infer(inputs)
        predictions = self.head._get_predictions(logits, data_samples)
        for prediction, exit in zip(predictions, exits.tolist()):
            prediction.set_field(exit, 'exit_index', dtype=int)
        return predictions


def _checked_exit_stages(exits: Sequence[dict], num_stages: int) -> tuple[int, ...]:
    if not exits:
        raise ValueError(
            'exits must hold at least one exit; for none, use the stock ImageClassifier'
        )
    numbers = tuple(cfg.get('stage') for cfg in exits)
    in_range = all(isinstance(n, int) and 1 <= n < num_stages for n in numbers)
    if not in_range or list(numbers) != sorted(set(numbers)):
        raise ValueError(
            f"exits need a rising 'stage' in 1…{num_stages - 1} (the last exit, behind "
            f'stage {num_stages}, is the head), got {list(numbers)}'
        )
    return numbers


def _keep(x: Tensor, kept: Tensor) -> Tensor:
    """The kept samples of features, in the same memory format."""
    channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    kept = x[kept]
    if channels_last:
        return kept.contiguous(memory_format=torch.channels_last)
    return kept
