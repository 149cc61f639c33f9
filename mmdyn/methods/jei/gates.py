"""Learned gates, a small layer at each exit: JEI-DNN, Regol et al., section 4."""

from collections.abc import Mapping
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mmdyn.methods.multi_exit.policies import Policy, named
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_counts


def uncertainty_statistics(logits: Tensor) -> Tensor:
    """Inputs (N, 4) of a gate, from logits (N, K), K > 1 (Appendix 9.9).

    Highest probability, entropy, entropy of the squared and renormalised probabilities,
    and margin between the two highest probabilities.
    """
    best, second = logits.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    # Squared and renormalised, probabilities are those of twice the logits.
    statistics = best, _entropy(logits), _entropy(2 * logits), best - second
    return torch.stack(statistics, dim=1)


def _entropy(logits: Tensor) -> Tensor:
    logarithms = logits.log_softmax(dim=1)
    return -(logarithms.exp() * logarithms).sum(dim=1)


def exit_distribution(gates: Tensor) -> Tensor:
    """P(G = l), (M, N), from outputs (M − 1, N) of the gates in [0, 1]; it sums to 1.

    Eq. 7 and 8, but the remainder is 1 less the probabilities of the exits before; less
    the gates' outputs, as Eq. 8 is written, it could be negative.
    """
    remaining, probabilities = torch.ones_like(gates[0]), []
    for gate in gates:
        probabilities.append(torch.minimum(gate, remaining))
        remaining = remaining - probabilities[-1]
    return torch.stack([*probabilities, remaining])


@MODELS.register_module()
class LearnedGatePolicy(Policy):
    """A sample takes the first exit with P(E = l) > threshold, else the last.

    A gate is one linear layer and a sigmoid on statistics of its exit's logits, trained
    by ``mmdyn.JEIScheduleHook``.

    Args:
        num_exits (int): Number of exits M, the last included.
        thresholds (float | Mapping[str, float]): Thresholds of P(E = l), in [0, 1), by
            the names of their operating points; a single one is named ``adaptive``.
        init_cfg (dict | None): Initialisation.

    Attributes:
        class_weights (Tensor): Weights (M − 1, 2) of samples that should stay and that
            should exit, in training.

    Raises:
        ValueError: If there is one exit only, or a threshold lies outside [0, 1).

    Example:
        >>> policy = dict(
        ...     type='mmdyn.LearnedGatePolicy', thresholds=dict(gates=0.5, early=0.3))
    """

    trained_by = 'mmdyn.JEIScheduleHook'

    def __init__(
        self,
        num_exits: int,
        thresholds: float | Mapping[str, float] = 0.5,
        init_cfg: dict | None = None,
    ):
        check_counts(num_exits=num_exits)
        if num_exits < 2:
            raise ValueError('gates need an exit before the last one, got 1 exit in all')
        thresholds = named(thresholds)
        for name, value in thresholds.items():
            if not (isinstance(value, Real) and 0 <= value < 1):
                raise ValueError(f'threshold {name!r} must lie in [0, 1), got {value!r}')
        settings = {n: dict(gate_threshold=float(t)) for n, t in thresholds.items()}
        super().__init__(num_exits, settings, init_cfg)
        self.gates = nn.ModuleList(nn.Linear(4, 1) for _ in range(num_exits - 1))
        self.register_buffer('class_weights', torch.ones(num_exits - 1, 2))

    @staticmethod
    def decision_macs(num_classes: int) -> int:
        """Multiply-adds of a gate by the paper's count (Tables 2 and 3): 9 K + 6.

        Most are element-wise, in the statistics; ``mmdyn.CostMeter`` leaves them out.
        """
        return 9 * num_classes + 6

    def gate_logits(self, logits: Tensor, exit: int, frozen: bool = False) -> Tensor:
        """Gate logits (N,) of an exit, by its index from 0 and its logits (N, K).

        If ``frozen``, gradients reach the exit's logits but not the gate.
        """
        # In half precision, probabilities of many exits do not sum to 1.
        precision = torch.promote_types(logits.dtype, torch.float)
        weight, bias = self.gates[exit].weight, self.gates[exit].bias
        if frozen:
            weight, bias = weight.detach(), bias.detach()
        statistics = uncertainty_statistics(logits.to(precision))
        return linear(statistics, weight, bias)[:, 0].to(precision)

    def forward(self, logits, exit, point, remaining=None):
        """Decide; what is carried is 1 less the probabilities of the exits before."""
        if 'thresholds' in point.settings:  # the baseline, found by a search
            return super().forward(logits, exit, point)
        gate = self.gate_logits(logits, exit).sigmoid()
        remaining = torch.ones_like(gate) if remaining is None else remaining
        probability = torch.minimum(gate, remaining)
        # P(E = l) of Eq. 4, without a division: the remainder here is above 0.
        leaves = probability > point.settings['gate_threshold'] * remaining
        return leaves, remaining - probability
