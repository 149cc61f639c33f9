"""The loss of knowledge distillation.

Distilling the Knowledge in a Neural Network, Hinton, Vinyals, Dean, 2015.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ['distillation_loss']


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² × KL(teacher || student), both softened by the temperature T.

    Args:
        student (Tensor): Logits (N, K, …).
        teacher (Tensor): Logits of the same shape.
        temperature (float): T. The factor T² keeps gradients of the same size.

    Returns:
        Tensor: Mean over samples and positions, a scalar.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=1)
    divergence = functional.kl_div(
        log_student, log_teacher, reduction='none', log_target=True
    )
    return divergence.sum(dim=1).mean() * temperature**2
