import numpy as np
import pytest
import torch

from mmdyn.methods.multi_exit.policies import (
    ConfidencePolicy,
    confidence,
    exits_by_confidence,
)


def test_leaves_when_the_highest_probability_reaches_the_threshold():
    policy = ConfidencePolicy(3, dict(mixed=(0.5, 0.9)))
    logits = torch.randn(200, 4) * 2
    scores = np.exp(logits.numpy().astype(np.float64))
    confidence = scores.max(1) / scores.sum(1)
    for exit, threshold in enumerate((0.5, 0.9)):
        leaves, _ = policy(logits, exit, policy.operating_points[0])
        assert leaves.dtype == torch.bool
        assert np.array_equal(leaves.numpy(), confidence >= threshold)
        assert 0 < leaves.sum() < 200


def test_reaching_the_threshold_exactly_is_enough():
    policy = ConfidencePolicy(2, 0.5)
    leaves, _ = policy(torch.zeros(1, 2), 0, policy.operating_points[0])
    assert leaves.tolist() == [True]


def test_samples_take_the_first_exit_that_is_confident():
    policy = ConfidencePolicy(4, dict(mixed=(0.8, 0.6, 0.7)))
    (point,) = policy.operating_points
    logits = torch.randn(4, 300, 5) * 2
    scores = np.exp(logits[:3].numpy().astype(np.float64))
    sure = scores.max(2) / scores.sum(2) >= np.array([[0.8], [0.6], [0.7]])
    expected = [next((i for i in range(3) if sure[i, n]), 3) for n in range(300)]
    assert set(expected) == {0, 1, 2, 3}
    assert policy.exits(logits, point).tolist() == expected
    confidences = torch.stack([confidence(each) for each in logits[:3]]).numpy()
    found = exits_by_confidence(confidences, point.settings['thresholds'])
    assert found.tolist() == expected


def test_settings_become_points():
    policy = ConfidencePolicy(3, dict(quick=0.6, careful=[0.9, 0.8]))
    assert [p.name for p in policy.operating_points] == ['quick', 'careful']
    assert policy.operating_points[0].settings['thresholds'] == (0.6, 0.6)
    assert policy.operating_points[1].settings['thresholds'] == (0.9, 0.8)
    assert ConfidencePolicy(2, 1).operating_points[0].name == 'adaptive'


@pytest.mark.parametrize(
    ('thresholds', 'message'),
    [
        ((0.5,), r"thresholds 'adaptive' need 2 values.*got 1: \(0.5,\)"),
        (dict(a=(0.5, 0.5, 0.5)), "thresholds 'a' need 2 values"),
        ((0.5, 0.0), r'must lie in \(0, 1\], got \(0.5, 0.0\)'),
        (1.01, r'must lie in \(0, 1\]'),
        (-0.5, r'must lie in \(0, 1\]'),
        (float('nan'), r'must lie in \(0, 1\]'),
        (None, "'adaptive' must be numbers, got None"),
        ('0.5', "must be numbers, got '0.5'"),
    ],
)
def test_refusals(thresholds, message):
    with pytest.raises(ValueError, match=message):
        ConfidencePolicy(3, thresholds)
