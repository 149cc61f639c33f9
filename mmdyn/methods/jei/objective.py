"""Training losses of exits and gates, which are trained alternately.

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
    """The targets of the gates (Appendix 9.15).

    Args:
        costs (Tensor): Cost of each exit for each sample, C of Eq. 12, of shape (M, N).
        kind (str): ``'exit_subsequent'``: exit at the cheapest exit, of several the
            first, and at all later ones (Eq. 31). ``'exit_if_min'``: exit wherever no
            later exit is cheaper (Eq. 32).

    Returns:
        Tensor: 1 to exit, 0 to stay, of shape (M − 1, N): the last exit has no gate.
    """
    check_choice('gate_targets', kind, GATE_TARGETS)
    if kind == 'exit_subsequent':
        best = costs.argmin(dim=0)
        places = torch.arange(len(costs) - 1, device=costs.device)
        return (places[:, None] >= best).to(costs.dtype)
    cheapest_later = costs.flip(0).cummin(dim=0).values.flip(0)[1:]
    return (costs[:-1] <= cheapest_later).to(costs.dtype)


class JointTraining:
    """Objective with the losses of the phases of a JEI-DNN's training.

    Args:
        cost_weight (float): The paper's λ: the whole cost in units of the cross-entropy.
        exit_costs (Sequence[float]): Cost of each exit as a share of the whole network's,
            IC_norm, (M,).
        targets (str): As ``kind`` of :func:`gate_targets`.
        full_gradient (bool): Whether exits also learn to change the gates' inputs:
            JEI-DNN-FULL (Eq. 14; its right term is left out otherwise).

    Attributes:
        phase (str): ``'warmup'``, ``'classifier'`` or ``'gate'``, or ``'backbone'``, in
            which the classifier's own losses are used.

    Raises:
        ValueError: For other targets.
    """

    trains_policy = True
    needs_all_exits = True

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
        """As of ``SumOfExits``, for a model with an ``mmdyn.LearnedGatePolicy``."""
        if self.phase == 'backbone':
            return model.losses_of_exits(inputs, data_samples)
        if self.phase == 'gate':
            # Gates judge the exits' logits of inference.
            with model.trunk_frozen(model.exits):
                logits = model.logits_of_exits(inputs)
        else:
            logits = list(model.training_logits(inputs).values())
        return self.losses_of_logits(model.policy, logits, _labels(data_samples))

    def losses_of_logits(
        self, policy: LearnedGatePolicy, logits: Sequence[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the active phase, under names with ``loss``, and numbers to log.

        From the logits (N, K) of each exit and labels (N,), or a score for each class
        (N, K).
        """
        errors = self.errors(logits, labels)
        if self.phase == 'warmup':
            return self._losses_of_warmup(errors)
        if self.phase == 'classifier':
            return self._losses_of_exits(policy, logits, errors)
        return self._losses_of_gates(policy, logits, errors)

    @staticmethod
    def errors(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The cross-entropy of each exit's logits on each sample, (M, N)."""
        return torch.stack(
            [cross_entropy(each.float(), labels, reduction='none') for each in logits]
        )

    def gate_targets(self, errors: Tensor) -> Tensor:
        """:func:`gate_targets` for these errors (M, N)."""
        return gate_targets(self.leaving_costs(errors), self.targets)

    def leaving_costs(self, errors: Tensor) -> Tensor:
        """C of Eq. 12: cross-entropy (M, N) and the weighted cost of computing."""
        return errors + self.cost_weight * self.exit_costs.to(errors)[:, None]

    def _losses_of_warmup(self, errors: Tensor) -> dict[str, Tensor]:
        """Eq. 17, without its learning rate: earlier exits have larger weights."""
        last = len(errors) - 1
        return {
            f'exit{exit + 1}.loss': (last - exit) * errors[exit].mean()
            for exit in range(last)
        }

    def _losses_of_exits(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 13, with the gradient of Eq. 14 or of Eq. 30."""
        with torch.set_grad_enabled(self.full_gradient):
            gates = _gate_logits(policy, logits, frozen=True).sigmoid()
            leaving = exit_distribution(gates)
        costs = self.leaving_costs(errors)
        return dict(
            loss_exits=(costs * leaving).sum(dim=0).mean(),
            expected_cost=(self.exit_costs.to(errors) @ leaving.detach()).mean(),
        )

    def _losses_of_gates(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 16, the two targets weighted by ``policy.class_weights``."""
        targets = self.gate_targets(errors.detach())
        gates = _gate_logits(policy, [each.detach() for each in logits])
        stay, leave = policy.class_weights.unbind(dim=1)
        weights = torch.where(targets > 0, leave[:, None], stay[:, None])
        losses = binary_cross_entropy_with_logits(
            gates, targets, weights, reduction='none'
        )
        right = (gates > 0) == (targets > 0)
        return dict(
            loss_gates=losses.mean(dim=1).sum(),
            gates_right=100 * right.float().mean(),
        )


def _gate_logits(policy, logits: Sequence[Tensor], frozen: bool = False) -> Tensor:
    """Gate logits (M − 1, N) of all exits but the last."""
    return torch.stack(
        [policy.gate_logits(each, i, frozen) for i, each in enumerate(logits[:-1])]
    )


def _labels(data_samples: list) -> Tensor:
    """Labels (N,), or scores (N, K) where a batch augmentation has mixed images."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])
