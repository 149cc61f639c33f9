import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_evaluation.test_uncertainty.test_reliability import draw, softmax

from mmdyn.evaluation.uncertainty.temperature import (
    TEMPERATURE_RANGE,
    apply_temperature,
    fit_temperature,
)

FINITE = st.floats(-60, 0, width=32)

LOGITS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=FINITE
)


def loss(logits, labels, temperature):
    margins = (logits - logits[np.arange(len(labels)), labels][:, None]) / temperature
    return np.logaddexp.reduce(margins, axis=1).mean()


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
        (lambda: fit_temperature(np.zeros((0, 3)), []), 'no images to fit a temperature'),
        (lambda: fit_temperature(np.zeros((2, 3)), [0]), r'got \(2, 3\) and \(1,\)'),
        (lambda: fit_temperature(np.zeros((1, 3)), [3]), 'must lie in 0…2, got 3…3'),
        (
            lambda: fit_temperature([[0, -np.inf]], [0]),
            'log-probabilities must be finite',
        ),
        (lambda: apply_temperature(np.zeros((1, 3)), 0.0), 'must be positive, got 0.0'),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
