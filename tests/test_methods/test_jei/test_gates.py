import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmpretrain.registry import MODELS

from mmdyn import OperatingPoint, at_operating_point
from mmdyn.methods.jei.gates import (
    LearnedGatePolicy,
    exit_distribution,
    uncertainty_statistics,
)

MODEL = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=20, stem_channels=4, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=16),
    cut='block',
    exits=[dict(type='mmdyn.LinearExit', stage=stage) for stage in range(1, 9)],
    policy=dict(
        type='mmdyn.LearnedGatePolicy', thresholds=dict(gates=0.5, early=0.2, late=0.8)
    ),
)


@pytest.mark.parametrize('classes', [2, 7])
def test_statistics_are_those_of_the_paper(classes):
    logits = 3 * torch.randn(50, classes)
    p = logits.double().softmax(dim=1).numpy()
    squared = p**2 / (p**2).sum(1, keepdims=True)
    ordered = np.sort(p, axis=1)
    expected = np.stack(
        [
            p.max(1),
            -(p * np.log(p)).sum(1),
            -(squared * np.log(squared)).sum(1),
            ordered[:, -1] - ordered[:, -2],
        ],
        axis=1,
    )
    np.testing.assert_allclose(uncertainty_statistics(logits), expected, atol=2e-6)


def test_statistics_of_certain_answers_are_numbers():
    logits = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    statistics = uncertainty_statistics(logits)
    assert statistics.tolist() == [[1, 0, 0, 1]]
    statistics.sum().backward()
    assert logits.grad.isfinite().all()


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 12), st.integers(1, 5)),
        elements=st.one_of(
            st.floats(0, 1, width=32), st.sampled_from([0.0, 0.5, 1.0, 2.0**-26])
        ),
    )
)
def test_the_distribution_of_exits_is_one_for_whatever_gates_say(gates):
    probabilities = exit_distribution(torch.tensor(gates))
    assert probabilities.shape == (len(gates) + 1, gates.shape[1])
    assert (probabilities >= 0).all() and (probabilities <= 1).all()
    torch.testing.assert_close(
        probabilities.sum(0), torch.ones(gates.shape[1]), atol=2e-6, rtol=0
    )
    # Eq. 8: the gates' own outputs while they are below the remainder.
    for sample in range(gates.shape[1]):
        left = 1.0
        for gate, probability in zip(gates[:, sample], probabilities[:, sample]):
            assert float(probability) == pytest.approx(min(gate, left), abs=2e-6)
            left -= min(gate, left)


@pytest.fixture
def model(mmpretrain_scope):
    model = MODELS.build(MODEL).eval()
    with torch.no_grad():  # so that images leave at many exits
        for exit in model.exits:
            exit.fc.weight.normal_(0, 1)
        for gate, logits in zip(model.policy.gates, model.logits_of_exits(images(64))):
            statistics = uncertainty_statistics(logits)
            gate.weight.normal_()
            gate.weight *= 2 / (statistics @ gate.weight[0]).std()
            gate.bias.copy_(-2 - (statistics @ gate.weight[0]).mean())
    return model


def images(number):
    return 2 * torch.randn(number, 3, 1, 1) + 2 * torch.randn(number, 3, 16, 16)


@pytest.mark.parametrize(
    'name, threshold', [('gates', 0.5), ('early', 0.2), ('late', 0.8)]
)
def test_images_leave_where_eq_4_says(model, name, threshold):
    x = images(64)
    with torch.no_grad(), at_operating_point(model, name):
        logits, exits = model.infer(x)
        of_exits = [each.double() for each in model.logits_of_exits(x)]
    expected = []
    for sample in range(len(x)):
        open_before = 1.0  # Π (1 − P(E = j))
        total = 0.0
        for exit in range(8):
            gates = model.policy.gate_logits(
                of_exits[exit][sample : sample + 1].float(), exit
            )
            of_exit = min(gates.double().sigmoid().item(), 1 - total)
            if of_exit / open_before > threshold:
                break
            open_before *= 1 - of_exit / open_before
            total += of_exit
        else:
            exit = 8
        expected.append(exit + 1)
    assert exits.tolist() == expected
    assert len(set(expected)) > 3
    chosen = torch.stack(of_exits)[exits - 1, torch.arange(len(x))]
    torch.testing.assert_close(logits.double(), chosen, atol=1e-4, rtol=1e-4)


def test_an_image_leaves_at_the_same_exit_in_any_batch(model):
    x = images(24)
    with torch.no_grad(), at_operating_point(model, 'gates'):
        together = model.infer(x)[1].tolist()
        alone = [model.infer(image[None])[1].item() for image in x]
    assert together == alone


def test_points_are_named():
    policy = LearnedGatePolicy(3)
    (point,) = policy.operating_points
    assert (point.name, dict(point.settings)) == ('adaptive', dict(gate_threshold=0.5))
    points = LearnedGatePolicy(3, dict(early=0.0, late=0.9)).operating_points
    assert [(p.name, p.settings['gate_threshold']) for p in points] == [
        ('early', 0.0),
        ('late', 0.9),
    ]


@pytest.mark.parametrize('threshold', [1.0, -0.1, 'x', float('nan')])
def test_other_thresholds_are_refused(threshold):
    with pytest.raises(ValueError, match=r"'adaptive' must lie in \[0, 1\)"):
        LearnedGatePolicy(3, threshold)


def test_gates_need_exits():
    with pytest.raises(ValueError, match='need an exit before the last one'):
        LearnedGatePolicy(1)


def test_thresholds_of_confidence_are_the_baseline(model):
    """On the same exits as the gates; found by a search, they leave gates aside."""
    x = images(40)
    with torch.no_grad():
        sure = [each.softmax(1).amax(1) for each in model.logits_of_exits(x)]
    thresholds = [each.quantile(0.8).item() for each in sure[:-1]]
    model.offer_points([OperatingPoint('found', dict(thresholds=thresholds))])
    with torch.no_grad(), at_operating_point(model, 'found'):
        exits = model.infer(x)[1].tolist()
    expected = [
        next((i + 1 for i in range(8) if sure[i][n] >= thresholds[i]), 9)
        for n in range(40)
    ]
    assert exits == expected and len(set(exits)) > 2
    with pytest.raises(ValueError, match='need 8 values'):
        model.offer_points([OperatingPoint('found', dict(thresholds=[0.5] * 3))])


def test_probabilities_are_exact_in_half_precision(model):
    x = images(16)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        gates = torch.stack(
            [
                model.policy.gate_logits(logits, exit).sigmoid()
                for exit, logits in enumerate(model.logits_of_exits(x)[:-1])
            ]
        )
    assert (exit_distribution(gates).sum(0) - 1).abs().max() < 1e-6


def test_gates_without_their_hook_are_not_trained_in_silence(model):
    from mmpretrain.structures import DataSample

    samples = [DataSample().set_gt_label(1)]
    with pytest.raises(ValueError, match='JEIScheduleHook'):
        model.loss(torch.randn(1, 3, 16, 16), samples)
