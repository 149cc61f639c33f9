"""The losses of inference modules and gates that are trained in turns.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
section 4.1 and Appendices 9.1.4, 9.5, 9.7 and 9.15.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmdyn.methods.jei.gates import LearnedGatePolicy, exit_distribution
from mmdyn.utils.validation import check_choice

GATE_TARGETS = ('exit_subsequent', 'exit_if_min')


def gate_targets(costs: Tensor, kind: str = 'exit_subsequent') -> Tensor:
    """What each gate should say (Appendix 9.15).

    Args:
        costs (Tensor): What leaving at each exit costs each sample, the C of Eq. 12, of
            shape (M, N).
        kind (str): ``'exit_subsequent'``: leave at the cheapest exit, of several the
            first, and at all behind it (Eq. 31). ``'exit_if_min'``: leave wherever no
            later exit is cheaper (Eq. 32).

    Returns:
        Tensor: 1 to leave, 0 to stay, of shape (M − 1, N): the last exit has no gate.

    Raises:
        ValueError: For another kind.
    """
    check_choice('gate_targets', kind, GATE_TARGETS)
    if kind == 'exit_subsequent':
        best = costs.argmin(dim=0)
        places = torch.arange(len(costs) - 1, device=costs.device)
        return (places[:, None] >= best).to(costs.dtype)
    cheapest_later = costs.flip(0).cummin(dim=0).values.flip(0)[1:]
    return (costs[:-1] <= cheapest_later).to(costs.dtype)


class JointTraining:
    """The losses of the phases of a JEI-DNN's training.

    Args:
        cost_weight (float): The paper's λ, what computing all costs in units of the
            cross-entropy.
        exit_costs (Sequence[float]): Share of the whole network's cost that leaving at
            each exit costs, IC_norm, (M,).
        targets (str): As ``kind`` of :func:`gate_targets`.
        full_gradient (bool): Whether inference modules also learn to change what the
            gates say: JEI-DNN-FULL (Eq. 14; the right term is left out otherwise).

    Attributes:
        phase (str): ``'warmup'``, ``'classifier'`` or ``'gate'``, or ``'backbone'``, in
            which the classifier's own losses are used.

    Raises:
        ValueError: For other targets.
    """

    def __init__(
        self,
        cost_weight: float,
        exit_costs: Sequence[float],
        targets: str = 'exit_subsequent',
        full_gradient: bool = False,
    ):
        check_choice('gate_targets', targets, GATE_TARGETS)
        self.cost_weight = cost_weight
        self.exit_costs = torch.as_tensor(exit_costs, dtype=torch.float)
        self.targets = targets
        self.full_gradient = full_gradient
        self.phase = 'warmup'

    def losses(self, model, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Losses of a batch in the active phase.

        Args:
            model (MultiExitClassifier): A model with an ``mmdyn.LearnedGatePolicy``.
            inputs (Tensor): Images of shape (N, C, H, W).
            data_samples (list[DataSample]): Their annotations.
        """
        if self.phase == 'backbone':
            return model.losses_of_exits(inputs, data_samples)
        if self.phase == 'gate':
            # Gates are to judge what exits say in inference.
            with model.trunk_frozen(model.exits):
                logits = model.logits_of_exits(inputs)
        else:
            logits = list(model.training_logits(inputs).values())
        return self.losses_of_logits(model.policy, logits, _labels(data_samples))

    def losses_of_logits(
        self, policy: LearnedGatePolicy, logits: Sequence[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the active phase.

        Args:
            policy (LearnedGatePolicy): The gates.
            logits (Sequence[Tensor]): Logits (N, K) of each exit.
            labels (Tensor): Labels (N,), or a score for each class (N, K).

        Returns:
            dict[str, Tensor]: Losses, under names that contain ``loss``, and what else
            is good to see in a log.
        """
        errors = self.errors(logits, labels)
        phase = dict(warmup=self._warmup, classifier=self._of_exits, gate=self._of_gates)[
            self.phase
        ]
        return phase(policy, logits, errors)

    @staticmethod
    def errors(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The cross-entropy of each exit's answer on each sample, (M, N)."""
        return torch.stack(
            [cross_entropy(each.float(), labels, reduction='none') for each in logits]
        )

    def gate_targets(self, errors: Tensor) -> Tensor:
        """:func:`gate_targets` for these errors (M, N)."""
        return gate_targets(self.leaving_costs(errors), self.targets)

    def leaving_costs(self, errors: Tensor) -> Tensor:
        """C of Eq. 12: cross-entropy (M, N) and the weighted cost of computing."""
        return errors + self.cost_weight * self.exit_costs.to(errors)[:, None]

    def _warmup(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 17; the rate it starts with is the optimizer's. Early exits learn more."""
        last = len(errors) - 1
        return {
            f'exit{exit + 1}.loss': (last - exit) * errors[exit].mean()
            for exit in range(last)
        }

    def _of_exits(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 13, with the gradient of Eq. 14 or of Eq. 30."""
        with torch.set_grad_enabled(self.full_gradient):
            gates = torch.stack(
                [
                    policy.gate_logits(each, exit, frozen=True).sigmoid()
                    for exit, each in enumerate(logits[:-1])
                ]
            )
            leaving = exit_distribution(gates)
        costs = self.leaving_costs(errors)
        return dict(
            loss_exits=(costs * leaving).sum(dim=0).mean(),
            expected_cost=(self.exit_costs.to(errors) @ leaving.detach()).mean(),
        )

    def _of_gates(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 16, the two kinds of targets weighted as ``policy.class_weights`` say."""
        targets = self.gate_targets(errors.detach())
        said = torch.stack(
            [
                policy.gate_logits(each.detach(), exit)
                for exit, each in enumerate(logits[:-1])
            ]
        )
        stay, leave = policy.class_weights.unbind(dim=1)
        weights = torch.where(targets > 0, leave[:, None], stay[:, None])
        losses = binary_cross_entropy_with_logits(
            said, targets, weights, reduction='none'
        )
        right = (said > 0) == (targets > 0)
        return dict(
            loss_gates=losses.mean(dim=1).sum(),
            gates_right=100 * right.float().mean(),
        )


def _labels(data_samples: list) -> Tensor:
    """Labels (N,), or scores (N, K) where a batch augmentation has mixed images."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])
