"""The losses of knowledge distillation, and their scaling.

Of logits: Distilling the Knowledge in a Neural Network, Hinton, Vinyals, Dean, 2015; of
feature maps: FitNets, Romero et al., ICLR 2015, without its regressor.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² × KL(teacher || student) of logits (N, K, …) at the temperature T.

    It is a mean over samples and positions; T² keeps gradients of the same size.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=1)
    divergence = functional.kl_div(
        log_student, log_teacher, reduction='none', log_target=True
    )
    return divergence.sum(dim=1).mean() * temperature**2


def feature_distillation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> Tensor:
    """Mean squared difference of maps (N, C, H, W): over elements, then over the maps."""
    losses = [
        functional.mse_loss(ours.float(), theirs.float())
        for ours, theirs in zip(student, teacher)
    ]
    return sum(losses) / len(losses)


def scaled_losses(losses: dict, factor: float) -> dict:
    """Multiply every loss, a tensor or a list of them; values that are no losses stay."""
    scaled = dict(losses)
    for name, value in losses.items():
        if 'loss' in name:
            several = isinstance(value, (list, tuple))
            scaled[name] = [v * factor for v in value] if several else value * factor
    return scaled
