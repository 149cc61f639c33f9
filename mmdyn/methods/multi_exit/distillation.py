"""Distillation of exits by exits or another network (Lin et al., III-B and Table V)."""

from collections.abc import Sequence

import torch
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from mmdyn.models.losses import distillation_loss, scaled_losses
from mmdyn.registry import MODELS
from mmdyn.utils.checkpoints import load_checkpoint_strictly
from mmdyn.utils.validation import check_choice


def weighted_ensemble(logits: Tensor) -> Tensor:
    """y_t = Σ_j α_j f'_j with α_j = j / Σ j."""
    weights = torch.arange(1, len(logits) + 1).to(logits)
    return torch.tensordot(weights / weights.sum(), logits, dims=1)


OWN_TEACHERS = dict(
    wed=weighted_ensemble,
    med=lambda logits: logits.mean(0),
    ofa=lambda logits: logits[-1],
)


@MODELS.register_module()
class MultiExitDistillation(nn.Module):
    """Objective with a loss between each exit and a teacher (Eq. 3).

    The loss of all exits is λ Σ CE_i + τ² (1 − λ) Σ KL_i; the teacher gets no gradients.

    Args:
        teacher (str): ``'wed'``: the ensemble of all exits, weighted by their number;
            ``'med'``: their mean; ``'ofa'``: the last exit; ``'dk'``: another network.
        weight (float): λ, in [0, 1], the weight of the cross-entropies.
        temperature (float): τ, above 0.
        model (dict | None): For ``'dk'`` alone, the config of the teacher: a classifier
            of images as the student's preprocessor leaves them.
        checkpoint (str | None): For ``'dk'`` alone, its weights. They are read when
            training begins and are in no checkpoint of the student.

    Example:
        >>> distillation = dict(type='mmdyn.MultiExitDistillation', teacher='wed')
    """

    trains_policy = False
    needs_all_exits = True

    def __init__(
        self,
        teacher: str = 'wed',
        weight: float = 0.9,
        temperature: float = 1.0,
        model: dict | None = None,
        checkpoint: str | None = None,
    ):
        super().__init__()
        check_choice('teacher', teacher, (*OWN_TEACHERS, 'dk'))
        if not 0 <= weight <= 1:
            raise ValueError(f'weight must lie in [0, 1], got {weight!r}')
        if not temperature > 0:
            raise ValueError(f'temperature must be above 0, got {temperature!r}')
        needed = teacher == 'dk'
        given = dict(model=model, checkpoint=checkpoint)
        if wrong := [name for name, value in given.items() if (value is None) == needed]:
            needs = 'needs' if needed else 'has no use for'
            raise ValueError(f'teacher={teacher!r} {needs} {" and ".join(wrong)}')
        self.teacher, self.model, self.checkpoint = teacher, model, checkpoint
        self.weight, self.temperature = weight, temperature
        # In a list, so that the student's parameters, checkpoints and modes leave it out.
        self._network: list[nn.Module] = []

    def init_weights(self) -> None:
        """Read the teacher's weights; a training begins with this."""
        if self.teacher == 'dk' and not self._network:
            network = MMENGINE_MODELS.build(self.model)
            load_checkpoint_strictly(network, self.checkpoint)
            self._network.append(network.eval().requires_grad_(False))

    def losses(self, model, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """As of ``SumOfExits``: λ CE_i, and ``exit1.loss_distillation`` and so on."""
        logits = model.training_logits(inputs)
        losses = scaled_losses(model.losses_of_logits(logits, data_samples), self.weight)
        for exit, term in zip(logits, self(list(logits.values()), inputs)):
            losses[f'exit{exit + 1}.loss_distillation'] = term
        return losses

    def forward(self, logits: Sequence[Tensor], images: Tensor) -> list[Tensor]:
        """τ² (1 − λ) KL_i of each exit, of its logits (N, K) and images (N, C, H, W)."""
        with torch.no_grad():
            target = self._teacher_logits(logits, images)
        return [
            (1 - self.weight) * distillation_loss(each, target, self.temperature)
            for each in logits
        ]

    def _teacher_logits(self, logits: Sequence[Tensor], images: Tensor) -> Tensor:
        if self.teacher in OWN_TEACHERS:
            return OWN_TEACHERS[self.teacher](torch.stack(list(logits)).float())
        self.init_weights()
        target = self._network[0].to(images.device)(images, mode='tensor')
        theirs, ours = tuple(target.shape), tuple(logits[0].shape)
        if theirs != ours:
            raise ValueError(f'the teacher gives logits {theirs}, the exits {ours}')
        return target
