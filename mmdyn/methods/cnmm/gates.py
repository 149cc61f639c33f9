"""Samples of the Concrete distribution: Bernoulli variables that have gradients.

The Concrete Distribution, Maddison, Mnih, Teh, ICLR 2017.
"""

from torch import Tensor
from torch.distributions import RelaxedBernoulli


def sample_concrete(logits: Tensor, number: int, temperature: float) -> Tensor:
    """Draw relaxed Bernoulli variables.

    Args:
        logits (Tensor): γ of M variables, of shape (M,); π = sigmoid(γ).
        number (int): Samples N of each.
        temperature (float): Near 0, samples are near 0 or 1. At any temperature one
            exceeds 1/2 with probability π.

    Returns:
        Tensor: Samples in (0, 1) of shape (N, M), in single precision.
    """
    gate = RelaxedBernoulli(
        logits.new_full((), temperature).float(),
        logits=logits.float(),
        validate_args=False,
    )
    return gate.rsample((number,))
