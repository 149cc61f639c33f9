import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdyn.evaluation.uncertainty.conformal import (
    METHODS,
    MIN_SAMPLES,
    conformal_threshold,
    conformal_thresholds,
    prediction_sets,
)

EXITS, CLASSES = 3, 6


def coverage(sets, labels):
    """Share of the sets that hold the true class (JEI-DNN, Eq. 2)."""
    return np.asarray(sets)[np.arange(len(sets)), labels].mean()


def draw(rng, images):
    """Probabilities (M, N, K), labels and exits of images that leave the earlier the
    easier they are; later exits know more, and none is calibrated."""
    labels = rng.integers(CLASSES, size=images)
    hardness = rng.random(images)
    # Where an image leaves depends on the image alone, not on its label.
    exits = np.digitize(hardness + 0.1 * rng.normal(size=images), [0.4, 0.7])
    signal = np.eye(CLASSES)[labels] * (6 * (1 - hardness))[:, None]
    strength = np.array([0.6, 0.8, 1.0])[:, None, None]
    logits = signal * strength + rng.normal(size=(EXITS, images, CLASSES))
    exponentials = np.exp(1.5 * logits)
    return exponentials / exponentials.sum(axis=2, keepdims=True), labels, exits


def true_scores(probabilities, labels):
    return 1 - probabilities[:, np.arange(len(labels)), labels]


def sets_of(probabilities, exits, thresholds):
    chosen = probabilities[exits, np.arange(len(exits))]
    return prediction_sets(chosen, exits, thresholds)


def rank_of(number, alpha):
    """⌈(n + 1)(1 − α)⌉ in whole numbers."""
    return math.ceil((number + 1) * (1 - Fraction(str(alpha))))


def mean_and_deviation(number, alpha, tested, trials):
    """Those of the mean coverage of trials, each on as many new images.

    The coverage at the k-th smallest of n scores is Beta(k, n + 1 − k) over the draw of
    these, and binomial about that over the draw of the new images.
    """
    k = rank_of(number, alpha)
    if k > number:
        return 1.0, 0.0
    mean = k / (number + 1)
    of_threshold = mean * (1 - mean) / (number + 2)
    of_test = (mean * (1 - mean) - of_threshold) / tested
    return mean, math.sqrt((of_threshold + of_test) / trials)


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=300),
    st.sampled_from([0.01, 0.045, 0.05, 0.1, 0.3, 0.5, 0.7, 0.95]),
)
def test_threshold_against_the_definition(scores, alpha):
    found = conformal_threshold(scores, alpha)
    rank = rank_of(len(scores), alpha)
    assert found == (sorted(scores)[rank - 1] if rank <= len(scores) else 1.0)


def test_ranks_that_are_whole_numbers():
    # 0.95 · 20 = 19, 0.9 · 100 = 90, 0.955 · 1000 = 955, 0.3 · 10 = 3: not one more.
    for number, alpha, rank in [(19, 0.05, 19), (99, 0.1, 90), (999, 0.045, 955)]:
        scores = np.arange(1, number + 1) / 1000
        assert conformal_threshold(scores, alpha) == rank / 1000
    assert conformal_threshold(np.arange(1, 10) / 10, 0.7) == 0.3
    # One score less than 19, and no rank is left but that of all classes.
    assert conformal_threshold(np.zeros(18), 0.05) == 1.0


@pytest.mark.parametrize('number', [25, 200])
@pytest.mark.parametrize('alpha', [0.05, 0.2])
def test_coverage_of_new_images(number, alpha):
    """Over many draws of both, the coverage is that of theory: at least 1 − α."""
    rng, trials, tested = np.random.default_rng(0), 2000, 20
    covered = []
    for _ in range(trials):
        threshold = conformal_threshold(rng.random(number), alpha)
        covered.append((rng.random(tested) <= threshold).mean())
    mean, deviation = mean_and_deviation(number, alpha, tested, trials)
    assert np.mean(covered) == pytest.approx(mean, abs=4 * deviation)
    assert mean >= 1 - alpha and deviation < 0.003
    spread = deviation * math.sqrt(trials)
    assert np.std(covered) == pytest.approx(spread, rel=0.1)


def average_coverage(method, alpha, number=120, tested=400, trials=250):
    """The mean coverage of trials, of all images and of those of each exit, and its
    deviation by chance."""
    rng, rows = np.random.default_rng(1), []
    for _ in range(trials):
        probabilities, labels, exits = draw(rng, number)
        scores = true_scores(probabilities, labels)
        found = conformal_thresholds(method, scores, exits, alpha)
        probabilities, labels, exits = draw(rng, tested)
        sets = sets_of(probabilities, exits, found.thresholds)
        row = [coverage(sets, labels)]
        row += [coverage(sets[exits == e], labels[exits == e]) for e in range(EXITS)]
        rows.append(row)
    return np.mean(rows, axis=0), np.std(rows, axis=0) / math.sqrt(trials)


@pytest.mark.parametrize('method', ['strict', 'gated'])
def test_coverage_holds_for_the_images_of_each_exit(method):
    alpha = 0.1
    means, deviations = average_coverage(method, alpha)
    assert (means >= 1 - alpha - 4 * deviations).all()
    # With n images at an exit it is at most 1 / (n + 1) above the target; all exits have
    # 24 and more, and the sets are not those of all classes.
    assert (means <= 1 - alpha + 1 / 25 + 4 * deviations).all()
    assert deviations.max() < 0.006


def test_coverage_of_one_threshold_holds_for_all_images_alone():
    number, alpha = 120, 0.1
    (whole, first, _, last), (deviation, *_) = average_coverage('general', alpha)
    mean, _ = mean_and_deviation(number, alpha, 400, 250)
    assert whole == pytest.approx(mean, abs=4 * deviation)
    assert first > 0.97 and last < 0.85  # the easy ones and the hard ones


def test_coverage_of_thresholds_of_all_images_holds_where_all_leave_at_one_exit():
    rng, alpha, number, tested, trials = np.random.default_rng(2), 0.1, 120, 100, 300
    covered = np.zeros((trials, EXITS))
    for trial in range(trials):
        probabilities, labels, exits = draw(rng, number)
        scores = true_scores(probabilities, labels)
        found = conformal_thresholds('ims', scores, exits, alpha)
        probabilities, labels, _ = draw(rng, tested)
        for exit in range(EXITS):
            sets = sets_of(probabilities, np.full(tested, exit), found.thresholds)
            covered[trial, exit] = coverage(sets, labels)
    mean, deviation = mean_and_deviation(number, alpha, tested, trials)
    assert covered.mean(axis=0) == pytest.approx(np.full(EXITS, mean), abs=4 * deviation)
    means, _ = average_coverage('ims', alpha)
    assert means[1] > 0.97 and means[3] < 0.85  # but not where the easy ones leave first


def by_hand(method, scores, exits, alpha):
    """The list of appendix 9.3, exit by exit."""
    general = conformal_threshold(
        [scores[exit][n] for n, exit in enumerate(exits)], alpha
    )
    thresholds = []
    for exit, row in enumerate(scores):
        here = [row[n] for n in range(len(exits)) if exits[n] == exit]
        if method == 'general' or (method == 'gated' and len(here) < 20):
            thresholds.append(general)
        elif method == 'ims':
            thresholds.append(conformal_threshold(row, alpha))
        else:
            thresholds.append(conformal_threshold(here, alpha) if here else 0.0)
    return thresholds


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('seed', range(5))
def test_methods_against_the_appendix(method, seed):
    rng = np.random.default_rng(seed)
    scores = rng.random((5, 150))
    # About 90, 40, 20 and 0 images, and the last exit with one less than is needed.
    exits = rng.choice(5, size=150, p=[0.6, 0.25, 0.15, 0, 0])
    exits[:19] = 4
    found = conformal_thresholds(method, scores, exits, 0.1)
    assert found.thresholds.tolist() == by_hand(method, scores, exits, 0.1)
    assert found.counts.tolist() == [(exits == exit).sum() for exit in range(5)]
    fewest = dict(strict=1, gated=20).get(method, 0)
    assert found.fallback.tolist() == (found.counts < fewest).tolist()
    assert found.counts[3] == 0 and found.counts[4] == 19


def test_where_gated_has_enough_images():
    scores = np.random.default_rng(0).random((2, 200))
    for here, differs in [(MIN_SAMPLES - 1, False), (MIN_SAMPLES, True)]:
        exits = (np.arange(200) >= here).astype(int)
        own = conformal_threshold(scores[0, :here], 0.2)
        general = conformal_thresholds('general', scores, exits, 0.2).thresholds[0]
        found = conformal_thresholds('gated', scores, exits, 0.2)
        assert own != general
        assert found.thresholds[0] == (own if differs else general)
        assert found.fallback.tolist() == [not differs, False]


def test_sets_of_an_example():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
    thresholds = np.array([0.8, 0.95, 0.0])
    sets = prediction_sets(probabilities, [0, 1, 2], thresholds)
    # 1 − 0.2 is at the first threshold, and so in; 1 − 1 at the last one.
    assert sets.tolist() == [
        [True, True, False],
        [True, True, True],
        [True, False, False],
    ]
    assert sets.sum(axis=1).mean() == pytest.approx(2)
    assert coverage(sets, [2, 2, 0]) == pytest.approx(2 / 3)
    assert prediction_sets(probabilities, [0] * 3, [1.0]).all()


def test_ties_keep_the_coverage():
    # A network that says the same of every image: half of its classes have 0.3.
    probabilities = np.tile([0.3, 0.3, 0.3, 0.1], (400, 1))
    labels = np.arange(400) % 4
    scores = 1 - probabilities[np.arange(400), labels]
    threshold = conformal_threshold(scores, 0.3)
    sets = prediction_sets(probabilities, np.zeros(400, dtype=int), [threshold])
    assert coverage(sets, labels) == 0.75 and sets.sum(axis=1).mean() == 3


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 99), st.sampled_from(METHODS), st.floats(0.01, 0.5))
def test_a_lower_alpha_gives_no_smaller_sets(seed, method, alpha):
    probabilities, labels, exits = draw(np.random.default_rng(seed), 60)
    scores = true_scores(probabilities, labels)
    more, fewer = (
        sets_of(
            probabilities,
            exits,
            conformal_thresholds(method, scores, exits, a).thresholds,
        )
        for a in (alpha, 1.5 * alpha)
    )
    assert (more | ~fewer).all()


SCORES = np.zeros((2, 3))


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: conformal_threshold([], 0.1), 'there are no scores'),
        (lambda: conformal_threshold([0.5], 0), r'alpha must lie in \(0, 1\), got 0'),
        (lambda: conformal_threshold([0.5], 1.0), r'alpha must lie in \(0, 1\), got 1.0'),
        (
            lambda: conformal_thresholds('gate', SCORES, [0, 1, 0], 0.1),
            "unknown method 'gate'; valid ones: general, ims, strict, gated",
        ),
        (
            lambda: conformal_thresholds('gated', SCORES, [0, 1, 2], 0.1),
            r'exits must lie in 0…1, got \[2\]',
        ),
        (
            lambda: conformal_thresholds('gated', SCORES, [0, 1], 0.1),
            r'exits \(N,\), got \(2, 3\) and \(2,\)',
        ),
        (
            lambda: conformal_thresholds('strict', np.zeros((2, 0)), [], 0.1),
            'there are no scores',
        ),
        (
            lambda: prediction_sets(np.ones((1, 2)), [-1], [0.5]),
            r'exits must lie in 0…0, got \[-1\]',
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
