import itertools
import math

import numpy as np
import pytest
import torch
from helpers.reference import randomize_norms
from helpers.rooms import needs
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from test_methods.test_multi_exit.test_classifier import SHAPE, config
from torch import nn

from mmdyn import CostMeter, OperatingPoint, at_operating_point, operating_points
from mmdyn.methods.multi_exit.exit_record import ExitRecord, record_exits
from mmdyn.methods.multi_exit.threshold_search import ThresholdSearch


def make_record(exits, images, seed=0, step=None):
    """Later exits are right more often, and the surer they are."""
    rng = np.random.default_rng(seed)
    confidences = rng.random((exits - 1, images)).astype(np.float32)
    if step:  # many ties
        confidences = np.ceil(confidences / step) * np.float32(step)
    chance = np.linspace(0.5, 0.9, exits)[:, None]
    sureness = np.concatenate([confidences, np.ones((1, images))])
    correct = rng.random((exits, images)) < chance * sureness**0.3
    return ExitRecord(confidences, correct, np.cumsum(rng.integers(5, 30, exits)))


def by_hand(record, thresholds):
    """Accuracy and MACs, image by image."""
    right = macs = 0
    images = record.correct.shape[1]
    for n in range(images):
        exit = 0
        while exit < len(thresholds) and record.confidences[exit, n] < thresholds[exit]:
            exit += 1
        right += record.correct[exit, n]
        macs += record.macs[exit]
    return 100 * right / images, macs / images


@pytest.mark.parametrize('exits, step', [(2, None), (3, None), (4, None), (4, 0.25)])
def test_all_combinations_against_a_loop_over_images(exits, step):
    record = make_record(exits, 60, step=step)
    search = ThresholdSearch(record, combinations=200)
    assert search.accuracy.size <= 200
    for place in itertools.product(*map(range, search.accuracy.shape)):
        thresholds = [c[i] for c, i in zip(search.candidates, place)]
        accuracy, macs = by_hand(record, thresholds)
        assert search.accuracy[place] == pytest.approx(accuracy)
        assert search.macs[place] == pytest.approx(macs)
        assert search.at(thresholds) == pytest.approx((accuracy, macs))


@pytest.mark.parametrize('seed', range(5))
def test_against_exhaustive_search_over_all_useful_thresholds(seed):
    # Between two confidences all thresholds do the same, so these are all there are.
    record = make_record(3, 12, seed)
    search = ThresholdSearch(record, combinations=14**2)
    useful = [[*row, 1.0] for row in record.confidences]
    results = [by_hand(record, vector) for vector in itertools.product(*useful)]
    for budget in np.linspace(record.macs[0], record.macs[-1], 7):
        best = max(accuracy for accuracy, macs in results if macs <= budget)
        least = min(m for a, m in results if a == best and m <= budget)
        found = by_hand(record, search.within(budget))
        assert found == (pytest.approx(best), pytest.approx(least))
    for wanted in sorted({accuracy for accuracy, _ in results}):
        least = min(macs for accuracy, macs in results if accuracy >= wanted)
        accuracy, macs = by_hand(record, search.reaching(wanted))
        assert accuracy >= wanted - 1e-9 and macs == pytest.approx(least)


def test_what_cannot_be_had():
    record = make_record(3, 50)
    search = ThresholdSearch(record)
    cheapest, best = search.macs.min(), search.accuracy.max()
    # All leave at the first exit.
    assert cheapest == record.macs[0]
    least = math.ceil(cheapest)
    with pytest.raises(ValueError, match=f'the cheapest thresholds cost {least:,}'):
        search.within(cheapest - 1)
    assert by_hand(record, search.within(least))[1] <= least
    with pytest.raises(ValueError, match=f'best thresholds have {best:.2f} %'):
        search.reaching(best + 0.1)
    assert by_hand(record, search.within(cheapest))[1] == pytest.approx(cheapest)
    assert by_hand(record, search.reaching(best))[0] == pytest.approx(best)


@pytest.mark.parametrize('exits', [7, 11])
def test_many_exits_are_at_least_as_good_as_one_threshold_for_all(exits):
    # The grid has few thresholds an exit then.
    record = make_record(exits, 1000)
    search = ThresholdSearch(record)
    shared = [by_hand(record, [g] * (exits - 1)) for g in np.linspace(0.01, 1, 30)]
    for budget in np.quantile(record.macs, [0.2, 0.4, 0.6]):
        best = max(accuracy for accuracy, macs in shared if macs <= budget)
        accuracy, macs = by_hand(record, search.within(budget))
        assert macs <= budget * (1 + 1e-9)
        assert accuracy >= best
        cheapest = min(macs for reached, macs in shared if reached >= best)
        accuracy, macs = by_hand(record, search.reaching(best))
        assert accuracy >= best - 1e-6 and macs <= cheapest
    with pytest.raises(ValueError, match='30 thresholds have more than 1,000,000'):
        ThresholdSearch(make_record(31, 10))


def test_neighbours_in_single_precision():
    # Half-way between them there is nothing.
    a = np.float32(0.99)
    b = np.nextafter(a, np.float32(1))
    record = ExitRecord(
        np.array([[a, b]]), np.array([[0, 1], [1, 0]], bool), np.array([1.0, 3.0])
    )
    (threshold,) = ThresholdSearch(record).reaching(100)
    assert (record.confidences[0] >= np.float32(threshold)).tolist() == [False, True]


def test_exits_that_are_absolutely_sure():
    # A softmax in single precision can be exactly 1, and a threshold of 1 lets it leave.
    record = ExitRecord(
        np.float32([[1, 0.5, 1, 0.2]]),
        np.array([[1, 0, 0, 1], [1, 1, 1, 0]], bool),
        np.array([10.0, 30.0]),
    )
    search = ThresholdSearch(record)
    assert search.at([1.0]) == (50, 20) == by_hand(record, [1.0])
    assert search.reaching(50) == pytest.approx((0.1,))


def test_50_000_images_and_a_million_combinations():
    # Without the sums, this would take 5e10 comparisons.
    record = make_record(4, 50_000)
    search = ThresholdSearch(record)
    assert 0.9e6 < search.accuracy.size <= 1e6
    rng = np.random.default_rng(1)
    for _ in range(5):
        thresholds = np.array([rng.choice(c) for c in search.candidates])
        stays = record.confidences < thresholds[:, None]
        exit = stays.cumprod(axis=0).sum(axis=0)
        right = record.correct[exit, np.arange(50_000)].mean()
        expected = 100 * right, record.macs[exit].mean()
        assert search.at(thresholds) == pytest.approx(expected)


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match='not of one record'):
        ExitRecord(np.ones((2, 5)), np.ones((2, 5), bool), np.ones(2))
    with pytest.raises(ValueError, match='no images'):
        ThresholdSearch(make_record(2, 0))


@pytest.fixture
def model(mmpretrain_scope):
    torch.manual_seed(0)
    model = MODELS.build(config(policy=None))
    randomize_norms(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    return model.eval()


def batches(sizes=(20, 20, 7)):
    images = torch.randn(sum(sizes), *SHAPE) * torch.rand(sum(sizes), 1, 1, 1) * 3
    samples = [DataSample().set_gt_label(i % 10) for i in range(sum(sizes))]
    start = 0
    for size in sizes:
        yield dict(
            inputs=images[start : start + size],
            data_samples=samples[start : start + size],
        )
        start += size


@torch.no_grad()
def test_expected_cost_and_accuracy_are_those_of_execution(model):
    data = list(batches())
    record = record_exits(model, data)
    for exit in (1, 2, 3):
        # Earlier exits count too, so only the first one costs what it costs alone.
        meter = CostMeter()
        with meter, at_operating_point(model, f'exit={exit}'):
            model(data[0]['inputs'])
        meter.images += 20
        alone = record.macs[exit - 1] == meter.macs_per_image
        assert alone == (exit == 1)

    search = ThresholdSearch(record, combinations=100)
    places = [(0, 0), (3, 5), (7, 2), (5, 5), (9, 9)]
    vectors = [[c[i] for c, i in zip(search.candidates, place)] for place in places]
    model.offer_points(
        [
            OperatingPoint(f'p{n}', dict(thresholds=[float(v) for v in vector]))
            for n, vector in enumerate(vectors)
        ]
    )
    assert [p.name for p in operating_points(model)][-5:] == [
        'p0',
        'p1',
        'p2',
        'p3',
        'p4',
    ]
    for n, vector in enumerate(vectors):
        meter, right, leaving = CostMeter(), 0, []
        for batch in data:
            with meter, at_operating_point(model, f'p{n}'):
                logits, exits = model.infer(batch['inputs'])
            labels = torch.cat([s.gt_label for s in batch['data_samples']])
            right += (logits.argmax(dim=1) == labels).sum().item()
            leaving += exits.tolist()
        accuracy, macs = search.at(vector)
        assert (100 * right / 47, meter.macs / 47) == pytest.approx((accuracy, macs))
        # Eq. 5: shares of the exits times what leaving there costs.
        shares = [leaving.count(exit) / 47 for exit in (1, 2, 3)]
        assert np.dot(shares, record.macs) == pytest.approx(macs)


def test_thresholds_that_cannot_be_the_models(model):
    for settings, message in (
        (dict(thresholds=(0.5,)), 'need 2 values'),
        (dict(thresholds=(0.5, 1.5)), r'must lie in \(0, 1\]'),
        (dict(thresholds=(0.5, 0.5), keep=3), "'thresholds' alone"),
    ):
        with pytest.raises(ValueError, match=message):
            model.offer_points([OperatingPoint('found', settings)])


def test_images_with_several_labels(model):
    sample = DataSample().set_gt_label([1, 2])
    batch = dict(inputs=torch.rand(1, *SHAPE), data_samples=[sample])
    with pytest.raises(ValueError, match='got 2 labels of 1 images'):
        record_exits(model, [batch])


@needs('CNMM')
@torch.no_grad()
def test_functions_that_no_sample_needs_cost_nothing(mmpretrain_scope):
    cnmm = dict(
        type='mmdyn.CNMM', scales=(0, 0, 1, 2), channels=(4, 8, 64), out_indices=(1, 2, 3)
    )
    model = MODELS.build(config(backbone=cnmm, policy=None)).eval()
    (batch,) = batches((8,))
    record = record_exits(model, [batch])
    model.offer_points([OperatingPoint('all', dict(thresholds=[1e-6, 1e-6]))])
    meter = CostMeter()
    with meter, at_operating_point(model, 'all'):
        assert model.infer(batch['inputs'])[1].tolist() == [1] * 8
    assert record.macs[0] == meter.macs / 8
    samples = MODELS.build(config(backbone={**cnmm, 'samples': 3}, policy=None))
    with pytest.raises(ValueError, match='either samples or a policy'):
        samples.offer_points([OperatingPoint('all', dict(thresholds=[0.5, 0.5]))])
