import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mmdyn.methods.jei.gates import LearnedGatePolicy, exit_distribution
from mmdyn.methods.jei.objective import JointTraining, gate_targets

COSTS = (0.2, 0.5, 0.7, 1.0)


@pytest.fixture
def policy():
    return LearnedGatePolicy(4)


@pytest.fixture
def logits():
    return [torch.randn(6, 3, requires_grad=True) for _ in COSTS]


LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


def joint(phase, weight=1.5, **arguments):
    training = JointTraining(weight, COSTS, **arguments)
    training.phase = phase
    return training


def errors_of(logits):
    return torch.stack([cross_entropy(each, LABELS, reduction='none') for each in logits])


def test_targets_are_those_of_eq_31_and_32():
    for costs in itertools.product((1.0, 2.0, 3.0), repeat=4):
        column = torch.tensor(costs)[:, None]
        best = costs.index(min(costs))
        subsequent = [float(exit >= best) for exit in range(3)]
        if_min = [float(costs[exit] <= min(costs[exit + 1 :])) for exit in range(3)]
        assert gate_targets(column, 'exit_subsequent')[:, 0].tolist() == subsequent
        assert gate_targets(column, 'exit_if_min')[:, 0].tolist() == if_min


def test_the_pattern_the_paper_gives_as_an_example():
    # Best at the third exit, poor at the fourth, good again: t = 0, 0, 1, 0, 1.
    costs = torch.tensor([5, 4, 1, 6, 2, 3.0])[:, None]
    assert gate_targets(costs, 'exit_if_min')[:, 0].tolist() == [0, 0, 1, 0, 1]
    assert gate_targets(costs)[:, 0].tolist() == [0, 0, 1, 1, 1]


def test_warm_up_is_scaled_by_position(policy, logits):
    losses = joint('warmup').losses_of_logits(policy, logits, LABELS)
    means = errors_of(logits).mean(dim=1)
    assert list(losses) == ['exit1.loss', 'exit2.loss', 'exit3.loss']
    for exit, scale in enumerate((3, 2, 1)):
        assert losses[f'exit{exit + 1}.loss'].item() == pytest.approx(
            scale * means[exit].item(), rel=1e-6
        )


def gates_of(policy, logits):
    return torch.stack(
        [policy.gate_logits(each, i).sigmoid() for i, each in enumerate(logits[:-1])]
    )


def test_exits_learn_from_those_who_leave_at_them(policy, logits):
    losses = joint('classifier').losses_of_logits(policy, logits, LABELS)
    leaving = exit_distribution(gates_of(policy, logits)).detach()
    errors = errors_of(logits)
    expected = 0.0
    for exit, sample in np.ndindex(4, 6):
        cost = errors[exit, sample].item() + 1.5 * COSTS[exit]
        expected += cost * leaving[exit, sample].item() / 6
    assert losses['loss_exits'].item() == pytest.approx(expected, rel=1e-5)
    expected = (torch.tensor(COSTS) @ leaving).mean().item()
    assert losses['expected_cost'].item() == pytest.approx(expected, rel=1e-6)
    losses['loss_exits'].backward()
    # The gradient of Eq. 30: that of a weighted cross-entropy.
    got = [each.grad.clone() for each in logits]
    weighted = (errors * leaving).sum(dim=0).mean()
    for grad, wanted in zip(got, torch.autograd.grad(weighted, logits)):
        torch.testing.assert_close(grad, wanted)
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_the_full_gradient_is_that_of_the_loss(policy, logits):
    training = joint('classifier', full_gradient=True)
    logits = [each.detach().double().requires_grad_() for each in logits]
    policy = policy.double()
    training.exit_costs = training.exit_costs.double()

    def loss(*logits):
        errors = torch.stack(
            [cross_entropy(each, LABELS, reduction='none') for each in logits]
        )
        leaving = exit_distribution(gates_of(policy, logits))
        costs = errors + 1.5 * training.exit_costs[:, None]
        return (costs * leaving).sum(dim=0).mean()

    training.errors = lambda logits, labels: torch.stack(
        [cross_entropy(each, labels, reduction='none') for each in logits]
    )
    got = training.losses_of_logits(policy, logits, LABELS)['loss_exits']
    assert got.item() == pytest.approx(loss(*logits).item(), rel=1e-12)
    got.backward()
    step = 1e-6
    for exit, sample, k in itertools.product(range(4), range(2), range(3)):
        ends = []
        for sign in (1, -1):
            moved = [each.detach().clone() for each in logits]
            moved[exit][sample, k] += sign * step
            ends.append(loss(*moved).item())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert logits[exit].grad[sample, k].item() == pytest.approx(slope, abs=1e-7)
    assert all(parameter.grad is None for parameter in policy.parameters())


@pytest.mark.parametrize('kind', ['exit_subsequent', 'exit_if_min'])
def test_gates_learn_where_images_should_have_left(policy, logits, kind):
    policy.class_weights.copy_(torch.tensor([[1, 3], [2, 0.5], [1, 1.0]]))
    losses = joint('gate', targets=kind).losses_of_logits(policy, logits, LABELS)
    errors = errors_of(logits).detach()
    targets = gate_targets(errors + 1.5 * torch.tensor(COSTS)[:, None], kind)
    gates = gates_of(policy, logits).detach()
    expected, right = 0.0, 0
    for gate, sample in np.ndindex(3, 6):
        target, g = int(targets[gate, sample]), gates[gate, sample].item()
        weight = policy.class_weights[gate, target].item()
        expected -= weight * np.log(g if target else 1 - g) / 6
        right += (g > 0.5) == bool(target)
    assert 0 < targets.sum() < 18
    assert losses['loss_gates'].item() == pytest.approx(expected, rel=1e-5)
    assert losses['gates_right'].item() == pytest.approx(100 * right / 18, rel=1e-5)
    losses['loss_gates'].backward()
    assert all(each.grad is None for each in logits)
    assert all(parameter.grad.abs().sum() > 0 for parameter in policy.parameters())


def test_cost_decides_where_answers_are_equal(policy):
    same = torch.randn(5, 3)
    labels = torch.zeros(5, dtype=torch.long)
    for weight, first in ((0.0, 1), (10.0, 1)):
        training = joint('gate', weight)
        targets = training.gate_targets(training.errors([same] * 4, labels))
        assert (targets[0] == first).all()
    # A little worse at the first exit, which λ makes up for or not.
    worse = same.clone()
    worse[:, 0] -= 0.5
    for weight, first in ((0.0, 0), (10.0, 1)):
        training = joint('gate', weight)
        targets = training.gate_targets(training.errors([worse, *[same] * 3], labels))
        assert (targets[0] == first).all()


def test_soft_labels_are_labels(policy, logits):
    scores = torch.nn.functional.one_hot(LABELS, 3).float()
    for phase in ('warmup', 'classifier', 'gate'):
        hard = joint(phase).losses_of_logits(policy, logits, LABELS)
        soft = joint(phase).losses_of_logits(policy, logits, scores)
        for name in hard:
            assert soft[name].item() == pytest.approx(hard[name].item(), rel=1e-5)


def test_other_targets_are_refused():
    with pytest.raises(ValueError, match="exit_subsequent.*got 'random'"):
        JointTraining(1.0, COSTS, targets='random')
