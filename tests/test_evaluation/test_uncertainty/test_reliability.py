import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample

from mmdyn.evaluation.uncertainty.reliability import (
    TEMPERATURE_RANGE,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)

FINITE = st.floats(-60, 0, width=32)
LOGITS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE
)


def draw(images, classes, spread=2.0, seed=0):
    """Logits, and labels that are as probable as their softmax says."""
    rng = np.random.default_rng(seed)
    logits = spread * rng.normal(size=(images, classes))
    probabilities = softmax(logits)
    labels = (probabilities.cumsum(axis=1) < rng.random((images, 1))).sum(axis=1)
    return logits, labels


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def loss(logits, labels, temperature):
    margins = (logits - logits[np.arange(len(labels)), labels][:, None]) / temperature
    return np.logaddexp.reduce(margins, axis=1).mean()


def by_hand(confidences, correct, bins):
    """Equation 19 in a loop over bins and images, for confidences that all differ."""
    order = sorted(range(len(confidences)), key=lambda n: confidences[n])
    error = 0.0
    for b in range(bins):
        start, end = len(order) * b // bins, len(order) * (b + 1) // bins
        inside = order[start:end]
        if inside:
            accuracy = sum(correct[n] for n in inside) / len(inside)
            confidence = sum(confidences[n] for n in inside) / len(inside)
            error += len(inside) / len(order) * abs(accuracy - confidence)
    return error


def test_an_example_on_paper():
    # Bins {0.4, 0.5}, {0.6, 0.7} and {0.8, 1.0}, in another order.
    confidences = [0.8, 0.4, 0.6, 1.0, 0.5, 0.7]
    correct = [True, False, True, True, True, False]
    bins = reliability_bins(confidences, correct, 3)
    assert bins.counts.tolist() == [2, 2, 2]
    assert bins.confidences == pytest.approx([0.45, 0.65, 0.9])
    assert bins.accuracies == pytest.approx([0.5, 0.5, 1.0])
    # (0.05 + 0.15 + 0.1) / 3
    assert expected_calibration_error(confidences, correct, 3) == pytest.approx(0.1)


def test_bins_where_their_number_does_not_divide():
    confidences = np.arange(7) / 10
    bins = reliability_bins(confidences, np.ones(7), 3)  # ends: 7/3 → 2, 14/3 → 4, 7
    assert bins.counts.tolist() == [2, 2, 3]
    assert bins.confidences == pytest.approx([0.05, 0.25, 0.5])
    few = reliability_bins([0.3, 0.9], [True, False], 15)
    assert few.counts.tolist() == [1, 1]
    assert few.accuracies.tolist() == [1, 0]
    assert few.calibration_error == pytest.approx((0.7 + 0.9) / 2)


@pytest.mark.parametrize('images', [1, 4, 14, 15, 16, 100, 301])
@pytest.mark.parametrize('bins', [1, 2, 15])
def test_error_against_a_loop(images, bins):
    rng = np.random.default_rng(images)
    confidences, correct = rng.random(images), rng.random(images) < 0.6
    found = expected_calibration_error(confidences, correct, bins)
    assert found == pytest.approx(by_hand(confidences, correct, bins), abs=1e-12)
    counts = reliability_bins(confidences, correct, bins).counts
    assert counts.sum() == images and len(counts) == min(images, bins)
    assert counts.max() - counts.min() <= 1


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.9, 1.0]), st.booleans())).filter(len)
)
def test_order_of_images_does_not_matter(images):
    confidences, correct = zip(*images)
    error = expected_calibration_error(confidences, correct, 4)
    again = expected_calibration_error(confidences[::-1], correct[::-1], 4)
    assert error == pytest.approx(again, abs=1e-12)
    assert 0 <= error <= 1
    # In the mean over all images bins can only cancel less.
    whole = abs(np.mean(confidences) - np.mean(correct))
    assert error >= whole - 1e-12


def test_images_of_one_confidence_are_as_one():
    # Sorted by class, as test data are: the right ones first.
    confidences, correct = [1.0] * 100, [True] * 80 + [False] * 20
    assert expected_calibration_error(confidences, correct) == pytest.approx(0.2)


def test_a_calibrated_network_has_no_error():
    logits, labels = draw(60_000, 5)
    probabilities = softmax(logits)
    correct = probabilities.argmax(axis=1) == labels
    error = expected_calibration_error(probabilities.max(axis=1), correct)
    # The accuracy of 4,000 images is off by 0.8 of its deviation of at most 0.8 %.
    assert error < 0.0085
    sure = softmax(2 * logits).max(axis=1)
    assert expected_calibration_error(sure, correct) > 0.05


@pytest.mark.parametrize('scale', [0.25, 1.0, 3.0])
def test_a_known_temperature_is_found(scale):
    logits, labels = draw(20_000, 6)
    log_probabilities = np.log(softmax(scale * logits))
    found = fit_temperature(log_probabilities, labels)
    # By maximum likelihood, 1 / T deviates by the root of the inverse information, which
    # is the variance of the logits under the probabilities they give.
    p = softmax(logits)
    variance = (p * logits**2).sum(axis=1) - (p * logits).sum(axis=1) ** 2
    deviation = scale / math.sqrt(len(labels) * variance.mean())
    assert found == pytest.approx(scale, abs=4 * deviation)
    assert deviation < 0.02 * scale


@pytest.mark.parametrize('seed', range(4))
def test_no_temperature_of_a_grid_is_better(seed):
    logits, labels = draw(200, 4, seed=seed)
    logits = (3 * logits).astype(np.float32)
    found = loss(logits, labels, fit_temperature(logits, labels))
    grid = np.geomspace(*TEMPERATURE_RANGE, 500)
    best = min(loss(logits, labels, temperature) for temperature in grid)
    assert found <= best
    assert found == pytest.approx(best, rel=1e-3)


def test_a_constant_for_each_image_does_not_matter():
    logits, labels = draw(300, 4)
    shifts = np.random.default_rng(1).normal(size=(300, 1)) * 50
    expected = fit_temperature(np.log(softmax(logits)), labels)
    assert fit_temperature(logits + shifts, labels) == pytest.approx(expected, rel=1e-4)


def test_temperatures_stay_finite():
    labels = np.arange(50) % 3
    right = np.eye(3)[labels]
    assert fit_temperature(right, labels) == pytest.approx(0.01, rel=1e-3)
    assert fit_temperature(-right, labels) == pytest.approx(100, rel=1e-3)
    assert fit_temperature(np.zeros((50, 3)), labels) == pytest.approx(1)
    # All right, and so sure that no temperature near 1 changes the loss of 0.
    assert 0.01 <= fit_temperature(100 * right, labels) <= 1
    assert fit_temperature(1e4 * right, labels) == pytest.approx(1)
    assert fit_temperature(-1e4 * right, labels) == pytest.approx(100, rel=1e-3)


@settings(derandomize=True, deadline=None)
@given(LOGITS, st.floats(*TEMPERATURE_RANGE))
def test_the_answer_is_the_same_at_any_temperature(logits, temperature):
    found = apply_temperature(logits, temperature)
    best = logits.argmax(axis=1)
    assert (found[np.arange(len(best)), best] == found.max(axis=1)).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(len(best)))
    expected = softmax(logits.astype(float) / temperature)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_each_image_at_its_own_temperature():
    logits, _ = draw(3, 4)
    found = apply_temperature(logits, np.array([0.5, 1.0, 2.0]))
    for row, temperature, image in zip(found, (0.5, 1.0, 2.0), logits):
        expected = softmax(image[None] / temperature)[0]
        np.testing.assert_allclose(row, expected, atol=1e-12)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: reliability_bins([], []), 'there are no images to bin'),
        (lambda: reliability_bins([0.5], [True], 0), 'bins must be 1 or more, got 0'),
        (lambda: reliability_bins([0.5], [True, False]), r'got shapes \(1,\) and \(2,\)'),
        (lambda: fit_temperature(np.zeros((0, 3)), []), 'no images to fit a temperature'),
        (lambda: fit_temperature(np.zeros((2, 3)), [0]), r'got \(2, 3\) and \(1,\)'),
        (lambda: fit_temperature(np.zeros((1, 3)), [3]), 'must lie in 0…2, got 3…3'),
        (
            lambda: fit_temperature([[0, -np.inf]], [0]),
            'log-probabilities must be finite',
        ),
        (lambda: apply_temperature(np.zeros((1, 3)), 0.0), 'must be positive, got 0.0'),
        (lambda: evaluator(bins=0), 'bins must be 1 or more, got 0'),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def evaluator(**arguments):
    return Evaluator(dict(type='mmdyn.CalibrationError', **arguments))


def prediction(scores, label):
    return DataSample().set_pred_score(torch.as_tensor(scores)).set_gt_label(label)


@pytest.mark.parametrize('bins', [15, 4])
def test_metric_collects_batches(bins):
    logits, labels = draw(50, 4)
    scores = torch.from_numpy(3 * logits).float().softmax(dim=1)
    samples = [prediction(s, int(label)) for s, label in zip(scores, labels)]
    metric = evaluator(bins=bins)
    for start in range(0, 50, 16):
        metric.process(samples[start : start + 16])
    correct = scores.argmax(dim=1).numpy() == labels
    expected = 100 * by_hand(scores.max(dim=1).values.tolist(), correct, bins)
    assert metric.evaluate(50) == {'calibration/ece': pytest.approx(expected, abs=1e-6)}
    # A second evaluation starts afresh; padding of the last rank is dropped.
    metric.process([prediction([0.25, 0.75], 1), prediction([0.25, 0.75], 0)])
    assert metric.evaluate(1) == {'calibration/ece': pytest.approx(25)}


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (DataSample().set_pred_label(1).set_gt_label(1), 'without pred_score$'),
        (DataSample().set_pred_score(torch.ones(1)), 'without gt_label$'),
        (prediction([0.5, 0.5], [0, 1]), 'one label an image, got 2 labels'),
        (prediction([0.9, 0.8], 0), 'which sum to 1, got a sum of 1.7'),
    ],
)
def test_metric_refuses_what_is_no_single_label(sample, message):
    with pytest.raises(ValueError, match=message):
        evaluator().process([sample])


def test_metrics_are_found_without_mmpretrain():
    code = """
import sys
sys.modules['mmpretrain'] = None
from mmengine.evaluator import Evaluator
for name in ('CalibrationError', 'UncertaintyReport'):
    (metric,) = Evaluator(dict(type=f'mmdyn.{name}')).metrics
    print(type(metric).__name__)
"""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True
    )
    assert done.stdout.split() == ['CalibrationError', 'UncertaintyReport'], done.stderr
