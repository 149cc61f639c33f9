"""Losses of exits and gates: JEI-DNN, Regol et al., section 4.1 and its appendices."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mmdyn.methods.jei.gates import LearnedGatePolicy, exit_distribution
from mmdyn.utils.eval_mode import eval_mode
from mmdyn.utils.validation import check_choice


def gate_targets(costs: Tensor, kind: str = 'exit_subsequent') -> Tensor:
    """Targets of the gates (Appendix 9.15).

    Args:
        costs (Tensor): C of Eq. 12, the cost of each exit for each sample, (M, N).
        kind (str): ``'exit_subsequent'``: exit at the first of the cheapest exits and at
            all later ones (Eq. 31). ``'exit_if_min'``: exit wherever no later exit is
            cheaper (Eq. 32).

    Returns:
        Tensor: 1 to exit, 0 to stay, (M − 1, N): the last exit has no gate.
    """
    if kind == 'exit_subsequent':
        best = costs.argmin(dim=0)
        places = torch.arange(len(costs) - 1, device=costs.device)
        return (places[:, None] >= best).to(costs.dtype)
    cheapest_later = costs.flip(0).cummin(dim=0).values.flip(0)[1:]
    return (costs[:-1] <= cheapest_later).to(costs.dtype)


@dataclass(eq=False)
class JointTraining:
    """Objective with the losses of each phase of a JEI-DNN's training.

    Args:
        cost_weight (float): The paper's λ: the whole cost in units of the cross-entropy.
        exit_costs (Sequence[float]): IC_norm (M,), cost of each exit as a share.
        targets (str): The ``kind`` of :func:`gate_targets`.
        full_gradient (bool): Whether exits also learn to change the gates' inputs:
            JEI-DNN-FULL (Eq. 14 instead of Eq. 30).
        phase (str | None): ``'warmup'``, ``'gate'``, ``'classifier'`` or ``'backbone'``,
            in which the classifier's own losses are used; ``None`` before training.

    """

    trains_policy = True
    needs_all_exits = True

    cost_weight: float
    exit_costs: Sequence[float] = ()
    targets: str = 'exit_subsequent'
    full_gradient: bool = False
    phase: str | None = None

    def __post_init__(self):
        check_choice('gate_targets', self.targets, ('exit_subsequent', 'exit_if_min'))
        self.exit_costs = torch.as_tensor(self.exit_costs, dtype=torch.float)

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
        # Where a batch augmentation has mixed images, labels are scores (N, K).
        if 'gt_score' in data_samples[0]:
            labels = torch.stack([sample.gt_score for sample in data_samples])
        else:
            labels = torch.cat([sample.gt_label for sample in data_samples])
        return self.losses_of_logits(model.policy, logits, labels)

    def losses_of_logits(
        self, policy: LearnedGatePolicy, logits: Sequence[Tensor], labels: Tensor
    ) -> dict[str, Tensor]:
        """Losses and numbers to log, of logits (N, K) by exit and labels (N,), (N, K)."""
        errors = self.errors(logits, labels)
        if self.phase == 'warmup':  # Eq. 17, without its learning rate
            last = len(errors) - 1
            return {
                f'exit{i + 1}.loss': (last - i) * errors[i].mean() for i in range(last)
            }
        if self.phase == 'classifier':
            return self._losses_of_exits(policy, logits, errors)
        return self._losses_of_gates(policy, logits, errors)

    @staticmethod
    def errors(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Cross-entropy (M, N) of each exit's logits."""
        return torch.stack(
            [cross_entropy(each.float(), labels, reduction='none') for each in logits]
        )

    def leaving_costs(self, errors: Tensor) -> Tensor:
        """C of Eq. 12: cross-entropy (M, N) and the weighted cost of computing."""
        return errors + self.cost_weight * self.exit_costs.to(errors)[:, None]

    def gate_targets(self, errors: Tensor) -> Tensor:
        """:func:`gate_targets` of errors (M, N)."""
        return gate_targets(self.leaving_costs(errors), self.targets)

    def _losses_of_exits(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 13, with the gradient of Eq. 14 or of Eq. 30."""
        with torch.set_grad_enabled(self.full_gradient):
            gates = _gate_logits(policy, logits, frozen=True)
            leaving = exit_distribution(gates.sigmoid())
        return dict(
            loss_exits=(self.leaving_costs(errors) * leaving).sum(dim=0).mean(),
            expected_cost=(self.exit_costs.to(errors) @ leaving.detach()).mean(),
        )

    def _losses_of_gates(self, policy, logits, errors) -> dict[str, Tensor]:
        """Eq. 16, the two targets weighted by ``policy.class_weights``."""
        targets = self.gate_targets(errors.detach())
        gates = _gate_logits(policy, [each.detach() for each in logits])
        stay, leave = policy.class_weights.unbind(dim=1)
        weights = torch.where(targets > 0, leave[:, None], stay[:, None])
        loss = binary_cross_entropy_with_logits(gates, targets, weights, reduction='sum')
        right = (gates > 0) == (targets > 0)
        return dict(
            loss_gates=loss / gates.shape[1], gates_right=100 * right.float().mean()
        )

    def balance(self, model, batches: Iterable) -> list[float]:
        """Set ``class_weights`` by the targets' rarity in batches (Appendix 9.6).

        Returns the share of samples that should exit at each gate, over all ranks.
        """
        counts = torch.zeros_like(model.policy.class_weights)
        with eval_mode(model):
            for batch in batches:
                data = model.data_preprocessor(batch, False)
                labels = torch.cat([s.gt_label for s in data['data_samples']])
                errors = self.errors(model.logits_of_exits(data['inputs']), labels)
                targets = self.gate_targets(errors)
                counts += torch.stack([1 - targets, targets], dim=1).sum(dim=2)
        all_reduce(counts)
        weights = counts.sum(dim=1, keepdim=True) / (2 * counts)
        weights[(counts == 0).any(dim=1)] = 1  # only one target: nothing to balance
        model.policy.class_weights.copy_(weights)
        return (counts[:, 1] / counts.sum(dim=1)).tolist()


def _gate_logits(policy, logits: Sequence[Tensor], frozen: bool = False) -> Tensor:
    """Gate logits (M − 1, N) of all exits but the last."""
    return torch.stack(
        [policy.gate_logits(each, i, frozen) for i, each in enumerate(logits[:-1])]
    )
