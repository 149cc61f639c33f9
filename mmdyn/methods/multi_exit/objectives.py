"""Objectives: the training losses of a model with exits.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., Eq. 2.
"""

from torch import Tensor


class SumOfExits:
    """The sum of the losses of all exits in training (Eq. 2).

    Any object with these attributes and this method is an objective.

    Attributes:
        trains_policy (bool): Whether the losses also train the model's policy.
        needs_all_exits (bool): Whether no exit can be trained without the others.
    """

    trains_policy = False
    needs_all_exits = False

    def losses(self, model, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of a batch.

        Args:
            model (MultiExitModel): The model.
            inputs (Tensor): Preprocessed images (N, C, H, W).
            data_samples (list): Their annotations.

        Returns:
            dict[str, Tensor]: Losses, named by exit; the runner adds them up.
        """
        return model.losses_of_exits(inputs, data_samples)
