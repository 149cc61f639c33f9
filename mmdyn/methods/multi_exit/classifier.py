"""A classifier that can answer before its backbone has run to the end."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from mmpretrain.models import ClsHead, ImageClassifier
from torch import Tensor, nn

from mmdyn.methods.multi_exit.execution import run_to_exits
from mmdyn.methods.multi_exit.exits import build_exit
from mmdyn.methods.multi_exit.model import MultiExitModel
from mmdyn.methods.multi_exit.training_phases import TrainingPhase
from mmdyn.models.stages import Walk
from mmdyn.registry import MODELS
from mmdyn.utils.eval_mode import eval_mode


@MODELS.register_module()
class MultiExitClassifier(MultiExitModel, ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with exits along its backbone.

    Backbone, neck and head, the last exit, keep their names, so a stock checkpoint fills
    them. All exits are trained together (Lin et al., Eq. 2). In inference, samples that
    exit leave the batch, and once no samples remain no further stage runs.

    Its operating points are ``exit=1`` to ``exit=M``, at which no other exit is computed,
    and those of the policy. Predictions carry ``exit_index``, the number (from 1) of
    their exit.

    Args:
        exits (Sequence[dict] | dict): Configs of the earlier exits in order, with the
            number (from 1) of the ``stage`` that each follows; channels and classes are
            filled in. One config with ``levels``, say ``(4, 3, 2)``, stands for an exit
            of each level after the last stages but one.
        policy (dict | nn.Module | None): For example ``mmdyn.ConfidencePolicy``.
            ``None``: fixed exits and found thresholds.
        distillation (dict | nn.Module | None): Objective in place of the sum of the
            exits' losses, for example ``mmdyn.MultiExitDistillation``.
        cut (str): What exits follow: ``'stage'``, or a residual ``'block'`` of a ResNet.
        **stock: Arguments of ``ImageClassifier``: a ``backbone`` that
            ``cut_into_stages`` knows, a ``ClsHead``, whose loss serves all exits, …

    Raises:
        ValueError: If exits are missing, out of order, after no stage or of other classes
            than the head, or two operating points have one name.
    """

    def __init__(
        self,
        exits: Sequence[dict] | dict,
        policy: dict | nn.Module | None = None,
        distillation: dict | nn.Module | None = None,
        cut: str = 'stage',
        **stock,
    ):
        super().__init__(**stock)
        # VGG has its classifier in the backbone, followed by a bare ClsHead.
        owner = self.head if hasattr(self.head, 'num_classes') else self.backbone
        self.num_classes = getattr(owner, 'num_classes', -1)
        if not isinstance(self.head, ClsHead) or self.num_classes < 1:
            raise ValueError(
                f'head must be a classification head with num_classes, for example '
                f'LinearClsHead, got {type(self.head).__name__}'
            )
        stages, exits = self.place_exits(exits, cut)
        self.exits = nn.ModuleList(
            build_exit(cfg, stages[number - 1], stages[-2], self.num_classes)
            for cfg, number in zip(exits, self.exit_stages)
        )
        self.build_policy(policy)
        if isinstance(distillation, dict):
            distillation = MODELS.build(distillation)
        self.distillation = distillation
        self.training_phase = TrainingPhase(tuple(range(self.num_exits)))

    def logits_at(self, exit: int, features: Tensor) -> Tensor:
        if exit < len(self.exits):
            return self.exits[exit](features)
        features = (features,)
        return self.head(self.neck(features) if self.with_neck else features)

    def logits_of_exits(self, inputs: Tensor) -> list[Tensor]:
        """Logits (N, K) of each exit for all images (N, C, H, W); no sample exits."""
        walk = self.walk(inputs)
        return [self.logits_at(exit, features) for exit, features in enumerate(walk)]

    def infer(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) of images (N, C, H, W), and the number (N,) of their exits."""
        return run_to_exits(self, inputs)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode='tensor'):
        """As in ``ImageClassifier``; ``mode='tensor'`` gives logits (N, K)."""
        if mode == 'tensor':
            return self.infer(inputs)[0]
        return super().forward(inputs, data_samples, mode)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """As in ``ImageClassifier``, with ``exit_index`` in each sample."""
        logits, exits = self.infer(inputs)
        predictions = self.head._get_predictions(logits, data_samples)
        for prediction, exit in zip(predictions, exits.tolist()):
            prediction.set_field(exit, 'exit_index', dtype=int)
        return predictions

    def losses_of_exits(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The head's losses of each exit in training, with names like ``exit1.loss``."""
        return self.losses_of_logits(self.training_logits(inputs), data_samples)

    def losses_of_logits(self, logits: dict[int, Tensor], data_samples: list) -> dict:
        """As :meth:`losses_of_exits`, given the logits by the exit's index from 0."""
        return {
            f'exit{exit + 1}.{name}': value
            for exit, each in logits.items()
            for name, value in self.head._get_loss(each, data_samples).items()
        }

    def training_logits(self, inputs: Tensor) -> dict[int, Tensor]:
        """Logits of the exits in training; nothing after the last of them runs."""
        exits, frozen_parts = self.training_phase
        numbers = range(exits[-1] + 1)
        walk, logits = Walk(self.parts(numbers), inputs), {}
        for exit in numbers:
            frozen = exit < frozen_parts
            with self.trunk_frozen() if frozen else nullcontext():
                features = next(walk)
            if exit in exits:
                # The head belongs to the end of the backbone.
                frozen &= exit == self.num_exits - 1
                with self.trunk_frozen() if frozen else nullcontext():
                    logits[exit] = self.logits_at(exit, features)
        return logits

    def trunk_frozen(self, *others: nn.Module) -> AbstractContextManager:
        """Backbone, neck, head and others as in inference, without gradients."""
        neck = [self.neck] if self.with_neck else []
        return eval_mode(self.backbone, *neck, self.head, *others)


def require_classifier(model: nn.Module, user: str) -> None:
    """Refuse, by a ``ValueError`` that begins with ``user``, other kinds of models."""
    if not isinstance(model, MultiExitClassifier):
        kind = type(model).__name__
        raise ValueError(f'{user} an mmdyn.MultiExitClassifier, got a {kind}')
