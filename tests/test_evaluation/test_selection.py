import itertools
import random

import pytest
from test_evaluation.test_report import make, point

from mmdyn import select_operating_point

REPORT = make(
    [
        point('cheap', 60.0, 1e6, 0.2),
        point('middle', 80.0, 2e6, 0.6),
        point('odd', 79.0, 3e6, 0.5),
        point('best', 90.0, 4e6, 1.0),
    ]
)


@pytest.mark.parametrize(
    ('limits', 'name'),
    [
        ({}, 'best'),
        (dict(max_macs=3e6), 'middle'),
        (dict(max_macs=2e6), 'middle'),
        (dict(max_latency_ms=0.5), 'odd'),
        (dict(min_metric=75), 'middle'),
        (dict(min_metric=80, max_latency_ms=2), 'middle'),
        (dict(min_metric=79, max_latency_ms=0.5), 'odd'),
        (dict(max_macs=1.5e6, max_latency_ms=0.3), 'cheap'),
    ],
)
def test_best_point_within_limits(limits, name):
    assert select_operating_point(REPORT, **limits).name == name


def test_against_brute_force():
    rng = random.Random(0)
    numbers = [
        (rng.randint(50, 60), rng.randint(1, 9) * 1e6, rng.random()) for _ in 'x' * 9
    ]
    report = make([point(str(i), *each) for i, each in enumerate(numbers)])
    for max_macs, max_ms in itertools.product((2e6, 5e6, 9e6), (0.3, 0.6, 1.0)):
        fitting = [n for n in numbers if n[1] <= max_macs and n[2] <= max_ms]
        if not fitting:
            continue
        best = select_operating_point(report, max_macs=max_macs, max_latency_ms=max_ms)
        score, macs, _ = numbers[int(best.name)]
        assert score == max(n[0] for n in fitting)
        assert macs == min(n[1] for n in fitting if n[0] == score)


@pytest.mark.parametrize(
    ('limits', 'message'),
    [
        (dict(max_macs=5e5), "max_macs = 500000: the nearest is 'cheap' with 1e.06"),
        (dict(max_latency_ms=0.1), "max_latency_ms = 0.1: the nearest is 'cheap'"),
        (dict(min_metric=95), r"min_metric \(accuracy/top1\) = 95: .* 'best' with 90"),
        (
            dict(max_macs=1e6, min_metric=70),
            'min_metric.* = 70: the nearest among the points with max_macs = 1e.06 is '
            "'cheap' with 60",
        ),
    ],
)
def test_infeasible_limits_are_explained(limits, message):
    with pytest.raises(ValueError, match=message):
        select_operating_point(REPORT, **limits)


def test_from_a_file_and_by_another_metric(tmp_path):
    make([point('a', 1.0, 1e6, f1=3.0), point('b', 2.0, 2e6, f1=2.0)]).write(tmp_path)
    path = tmp_path / 'operating_points.json'
    assert select_operating_point(path).name == 'b'
    assert select_operating_point(str(path), metric='f1').name == 'a'
    with pytest.raises(ValueError, match="unknown metric 'f2'; measured"):
        select_operating_point(path, metric='f2')
