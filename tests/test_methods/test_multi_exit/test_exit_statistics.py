import math
import random

import numpy as np
import pytest
import torch

from mmdyn.methods.multi_exit.exit_statistics import (
    ExitStatistics,
    ExitStatisticsMetric,
    class_groups,
)

EXITS, CLASSES = 3, 12


def draw(rng, number=300):
    """Samples as (exit, correct, class); no sample at exit 2, and none of class 5."""
    present = [c for c in range(CLASSES) if c != 5]
    # Classes differ in how many samples leave at once, and in how many are right.
    return [
        (1 if rng.random() < c / CLASSES else 3, rng.random() < 0.3 + c / 20, c)
        for c in rng.choices(present, k=number)
    ]


def count(samples):
    exits, correct, classes = zip(*samples)
    return ExitStatistics.count(exits, correct, classes, EXITS, CLASSES)


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else math.nan


@pytest.mark.parametrize('seed', range(5))
def test_against_counting_one_by_one(seed):
    samples = draw(random.Random(seed))
    found = count(samples)
    assert found.accuracy == pytest.approx(mean(right for _, right, _ in samples))
    for exit in (1, 2, 3):
        share = mean(e == exit for e, _, _ in samples)
        own = mean(right for e, right, _ in samples if e == exit)
        assert found.shares[exit - 1] == pytest.approx(share)
        assert found.accuracies[exit - 1] == pytest.approx(own, nan_ok=True)
    for c in range(CLASSES):
        of_class = [(e, right) for e, right, k in samples if k == c]
        accuracy = mean(right for _, right in of_class)
        assert found.class_accuracies[c] == pytest.approx(accuracy, nan_ok=True)
        for exit in (1, 2, 3):
            share = mean(e == exit for e, _ in of_class)
            own = mean(right for e, right in of_class if e == exit)
            place = c, exit - 1
            assert found.class_shares[place] == pytest.approx(share, nan_ok=True)
            assert found.class_exit_accuracies[place] == pytest.approx(own, nan_ok=True)
    assert found.shares[1] == 0 and math.isnan(found.accuracies[1])
    assert np.isnan(found.class_shares[5]).all()


@pytest.mark.parametrize('seed', range(5))
def test_groups_of_classes(seed):
    samples = draw(random.Random(seed))
    table = []
    for c in range(CLASSES):
        of_class = [(e, right) for e, right, k in samples if k == c]
        if of_class:
            share = mean(e == 1 for e, _ in of_class)
            table.append((share, mean(right for _, right in of_class)))
    groups = class_groups(count(samples))
    # 5, 10, 20, 30, 40 and 50 % of the 11 classes that have samples.
    assert [g.classes for g in groups] == [1, 2, 3, 4, 6] * 2
    assert [g.most for g in groups] == [False] * 5 + [True] * 5
    for group in groups:
        ranked = sorted(table, key=lambda row: -row[0] if group.most else row[0])
        best = ranked[: group.classes]
        assert group.first_exit_share == pytest.approx(mean(share for share, _ in best))
        assert group.accuracy == pytest.approx(mean(accuracy for _, accuracy in best))


def test_the_groups_of_the_paper():
    every = np.ones((1000, 1), dtype=int)
    sizes = [g.classes for g in class_groups(ExitStatistics(every, every))]
    assert sizes == [50, 100, 200, 300, 400, 500] * 2


def test_no_samples_at_all():
    found = ExitStatistics.count([], [], [], EXITS, CLASSES)
    assert math.isnan(found.accuracy) and np.isnan(found.shares).all()
    assert class_groups(found) == []


def sample(exit, predicted, label):
    return dict(
        exit_index=exit,
        pred_label=torch.tensor([predicted]),
        gt_label=torch.tensor([label]),
    )


def test_metric_collects_batches():
    metric = ExitStatisticsMetric(num_exits=3, num_classes=2)
    metric.process(None, [sample(1, 0, 0), sample(1, 1, 0)])
    metric.process(None, [sample(3, 1, 1), sample(1, 1, 1), sample(1, 1, 1)])
    # The sampler of several ranks repeats samples to fill them: the last one is dropped.
    metrics = metric.evaluate(4)
    assert metric.statistics.samples.tolist() == [[2, 0, 0], [1, 0, 1]]
    assert metric.statistics.correct.tolist() == [[1, 0, 0], [1, 0, 1]]
    assert metrics == {
        'exits/share_1': 75.0,
        'exits/accuracy_1': pytest.approx(200 / 3),
        'exits/share_2': 0.0,
        'exits/accuracy_2': pytest.approx(math.nan, nan_ok=True),
        'exits/share_3': 25.0,
        'exits/accuracy_3': 100.0,
    }
    metric.process(None, [sample(2, 0, 0)])
    metric.evaluate(1)
    assert metric.statistics.samples.tolist() == [[0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (([0], [True], [0]), 'exits must lie in 1…3, got \\[0\\]'),
        (([4], [True], [0]), 'exits must lie in 1…3, got \\[4\\]'),
        (([1], [True], [12]), 'classes must lie in 0…11, got \\[12\\]'),
        (([1, 2], [True], [0]), 'of one length, got 2, 1 and 1'),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExitStatistics.count(*arguments, EXITS, CLASSES)
