"""What a model with exits learns from: an objective gives the losses of a batch.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., Eq. 2.
Another objective is an object with a method ``losses`` like this one.
"""

from typing import Any

from torch import Tensor


class SumOfExits:
    """The losses of all exits that are trained, which the runner adds up (Eq. 2)."""

    def losses(self, model, inputs: Tensor, data_samples: list[Any]) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            model (MultiExitModel): The model.
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list): Their annotations.

        Returns:
            dict[str, Tensor]: Losses, named by exit.
        """
        return model.losses_of_exits(inputs, data_samples)
