import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdyn.evaluation.uncertainty.reliability import reliability_bins


def expected_calibration_error(*arguments):
    return reliability_bins(*arguments).calibration_error


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


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: reliability_bins([], []), 'there are no images to bin'),
        (lambda: reliability_bins([0.5], [True], 0), 'bins must be 1 or more, got 0'),
        (lambda: reliability_bins([0.5], [True, False]), r'got shapes \(1,\) and \(2,\)'),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
