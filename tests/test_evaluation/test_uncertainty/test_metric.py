import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample

from mmdyn import OperatingPoint
from mmdyn.evaluation.uncertainty.conformal import (
    METHODS,
    conformal_thresholds,
    coverage,
    inefficiency,
    prediction_sets,
)
from mmdyn.evaluation.uncertainty.metric import (
    ACTIVE_POINT,
    Calibration,
    Predictions,
    calibration_file,
    fit_calibration,
    load_calibration,
    read_calibration,
    save_calibration,
)
from mmdyn.evaluation.uncertainty.reliability import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
)

EXITS, CLASSES = 2, 4
QUICK = OperatingPoint('quick', dict(thresholds=(0.5,)))
FIRST = OperatingPoint('exit=1', dict(exit=1))
CALIBRATION = Calibration(
    {'quick': (2.0, 0.5), 'exit=1': (2.0,)},
    {'quick': (0.6, 0.9), 'exit=1': (0.7,)},
    {'quick': '{"thresholds": [0.5]}', 'exit=1': '{"exit": 1}'},
    0.1,
    'gated',
)


@pytest.fixture(autouse=True)
def hub():
    """The current message hub, which forgets the active operating point."""
    hub = MessageHub.get_current_instance()
    yield hub
    hub.update_info(ACTIVE_POINT, None, resumed=False)


def draw(images, seed=0, scales=(3.0, 0.5)):
    """Log-probabilities (M, N, K), labels and exits. At each exit labels are as probable
    as the softmax of its logits before they are scaled."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(2 * rng.normal(size=(images, CLASSES)))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0].numpy()
    scaled = [(scale * logits).log_softmax(1).float().numpy() for scale in scales]
    # The surest of exit 1 leave there: the largest logits, whatever the labels.
    exits = (logits.max(dim=1).values < 1.5).long().numpy()
    return np.stack(scaled), labels, exits


def test_fit_finds_what_the_functions_find():
    log_probabilities, labels, exits = draw(400)
    none = np.zeros(400, dtype=int)
    second = OperatingPoint('exit=2', dict(exit=2))
    points = {
        QUICK: Predictions(log_probabilities, labels, exits),
        OperatingPoint('never'): Predictions(log_probabilities, labels, none),
        second: Predictions(log_probabilities[1:], labels, none),
    }
    found, notes = fit_calibration(points, 0.1, 'strict')
    assert found.temperatures['quick'] == pytest.approx((3, 0.5), rel=0.2)
    temperatures = tuple(fit_temperature(each, labels) for each in log_probabilities)
    assert found.temperatures['quick'] == found.temperatures['never'] == temperatures
    assert found.temperatures['exit=2'] == temperatures[1:]
    scores = np.empty((EXITS, 400))
    for exit, temperature in enumerate(temperatures):
        p = apply_temperature(log_probabilities[exit], temperature)
        scores[exit] = [1 - p[n, labels[n]] for n in range(400)]
    cases = dict(quick=(scores, exits), never=(scores, none))
    cases['exit=2'] = scores[1:], none
    for point, case in cases.items():
        expected = conformal_thresholds('strict', *case, 0.1).thresholds
        assert found.thresholds[point] == tuple(expected)
    assert found.thresholds['never'][1] == 0  # nobody leaves at exit 2 there
    assert (found.alpha, found.method, notes) == (0.1, 'strict', [])
    for point in points:
        temperatures, thresholds = found.at(point)
        assert tuple(temperatures) == found.temperatures[point.name]
        assert tuple(thresholds) == found.thresholds[point.name]


def test_temperatures_make_exits_agree():
    drawn = Predictions(*draw(3000))
    found, _ = fit_calibration({QUICK: drawn})
    pairs = zip(drawn.log_probabilities, found.temperatures['quick'])
    first, last = (apply_temperature(*each) for each in pairs)
    np.testing.assert_allclose(first, last, atol=1e-4)  # those before they were scaled
    assert (found.alpha, found.method) == (0.05, 'gated')


def notes_of(method, counts, alpha=0.05):
    images = sum(counts)
    log_probabilities, labels, _ = draw(images, scales=[1.0] * len(counts))
    exits = np.repeat(range(len(counts)), counts)
    careful = Predictions(log_probabilities, labels, exits)
    return fit_calibration({OperatingPoint('careful'): careful}, alpha, method)[1]


def test_notes_on_exits_with_few_images():
    assert notes_of('gated', [213, 7, 20]) == [
        'careful: only 7 of 240 validation images leave at exit 2, fewer than 20: the '
        'threshold of all images is used there'
    ]
    assert notes_of('gated', [0, 200, 0, 40]) == [
        'careful: none of 240 validation images leaves at exit 1, 3: the threshold of '
        'all images is used there'
    ]
    assert notes_of('strict', [200, 0, 40]) == [
        'careful: none of 240 validation images leaves at exit 2: the sets of images '
        'that do will be empty'
    ]
    assert notes_of('strict', [0, 0, 240]) == []
    every_class = (
        'careful: the sets of images that leave at exit 1, as 30 of 240 validation '
        'images do, will hold every class'
    )
    assert notes_of('gated', [30, 210], alpha=0.01) == [every_class]
    assert notes_of('gated', [30, 210], alpha=0.05) == []
    assert notes_of('general', [10, 0, 230]) == notes_of('ims', [10, 0, 230]) == []


UNIT = st.floats(0, 1)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    st.integers(1, 5).flatmap(
        lambda exits: st.tuples(
            st.dictionaries(
                st.text(max_size=5),
                st.tuples(
                    st.tuples(*[st.floats(0.01, 100)] * exits),
                    st.tuples(*[UNIT] * exits),
                ),
            ),
        )
    ),
    st.floats(1e-6, 0.999),
    st.sampled_from(METHODS),
)
def test_round_trip_through_json(values, alpha, method):
    temperatures, thresholds = (
        {point: pair[place] for point, pair in values[0].items()} for place in (0, 1)
    )
    settings = dict.fromkeys(thresholds, '{}')
    calibration = Calibration(temperatures, thresholds, settings, alpha, method)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again == calibration and hash(again) == hash(calibration)


def test_file_beside_the_checkpoint(tmp_path):
    checkpoint = tmp_path / 'epoch_9.pth'
    checkpoint.write_bytes(b'weights')
    assert load_calibration(checkpoint) is None
    path = save_calibration(checkpoint, CALIBRATION)
    assert path == calibration_file(checkpoint) == tmp_path / 'epoch_9.calibration.json'
    assert load_calibration(checkpoint) == read_calibration(path) == CALIBRATION
    checkpoint.write_bytes(b'other weights')
    message = r'is of other weights than .*: run tools/analysis_tools/calibrate.py again'
    with pytest.warns(UserWarning, match=message):
        assert load_calibration(checkpoint) is None


def test_what_fit_gives_can_be_saved(tmp_path):
    found, _ = fit_calibration({QUICK: Predictions(*draw(50))})
    (tmp_path / 'a.pth').write_bytes(b'')
    assert read_calibration(save_calibration(tmp_path / 'a.pth', found)) == found


@pytest.fixture
def file(tmp_path):
    checkpoint = tmp_path / 'a.pth'
    checkpoint.write_bytes(b'weights')
    return str(save_calibration(checkpoint, CALIBRATION))


def predictions(log_probabilities, labels, exits=None):
    samples = []
    for n, label in enumerate(labels):
        exit = 0 if exits is None else exits[n]
        scores = torch.from_numpy(log_probabilities[exit, n]).softmax(0)
        sample = DataSample().set_pred_score(scores).set_gt_label(int(label))
        if exits is not None:
            sample.set_field(int(exit) + 1, 'exit_index', dtype=int)
        samples.append(sample)
    return samples


def report(samples, calibration=None, batch_size=32, **arguments):
    evaluator = Evaluator(
        dict(type='mmdyn.UncertaintyReport', calibration=calibration, **arguments)
    )
    for start in range(0, len(samples), batch_size):
        evaluator.process(samples[start : start + batch_size])
    return evaluator.evaluate(len(samples))


def expected_report(log_probabilities, labels, exits, point, bins):
    temperatures = np.resize(CALIBRATION.temperatures[point], EXITS)
    thresholds = np.resize(CALIBRATION.thresholds[point], EXITS)
    probabilities = np.stack(
        [
            apply_temperature(log_probabilities[exit, n][None], temperatures[exit])[0]
            for n, exit in enumerate(exits)
        ]
    )
    sets = prediction_sets(probabilities, exits, thresholds)
    correct = probabilities.argmax(axis=1) == labels
    error = expected_calibration_error(probabilities.max(axis=1), correct, bins)
    return {
        'uncertainty/ece': pytest.approx(100 * error, abs=1e-4),
        'uncertainty/coverage': pytest.approx(100 * coverage(sets, labels)),
        'uncertainty/set_size': pytest.approx(inefficiency(sets)),
    }


@pytest.mark.parametrize('point', [QUICK, FIRST])
@pytest.mark.parametrize('bins', [15, 5])
def test_report_of_batches(file, hub, point, bins):
    log_probabilities, labels, exits = draw(100)
    hub.update_info(ACTIVE_POINT, point, resumed=False)
    found = report(predictions(log_probabilities, labels, exits), file, bins=bins)
    assert found == expected_report(log_probabilities, labels, exits, point.name, bins)
    assert 1 < found['uncertainty/set_size'] < CLASSES


def test_points_follow_one_another(file, hub):
    log_probabilities, labels, exits = draw(60)
    samples = predictions(log_probabilities, labels, exits)
    evaluator = Evaluator(dict(type='mmdyn.UncertaintyReport', calibration=file))
    for point in (QUICK, FIRST, QUICK):
        hub.update_info(ACTIVE_POINT, point, resumed=False)
        evaluator.process(samples)
        expected = expected_report(log_probabilities, labels, exits, point.name, 15)
        assert evaluator.evaluate(60) == expected


def test_coverage_of_new_images_is_the_target(tmp_path, hub):
    """From the images of a calibration to the report on others, and back to 1 − α."""
    drawn = Predictions(*draw(2000, seed=1))
    found, notes = fit_calibration({QUICK: drawn}, 0.1)
    (tmp_path / 'a.pth').write_bytes(b'')
    file = save_calibration(tmp_path / 'a.pth', found)
    log_probabilities, labels, exits = draw(2000, seed=2)
    metrics = report(predictions(log_probabilities, labels, exits), str(file))
    # 90 % over the draw of as many images for thresholds and for the test.
    deviation = 100 * math.sqrt(2 * 0.1 * 0.9 / 2000)
    assert metrics['uncertainty/coverage'] == pytest.approx(90, abs=4 * deviation)
    assert metrics['uncertainty/ece'] < 4 and notes == []
    raw = [sample.pred_score.max() for sample in predictions(log_probabilities, labels)]
    correct = log_probabilities[0].argmax(axis=1) == labels
    assert 100 * expected_calibration_error(raw, correct) > 10


def one_point(tmp_path, name, temperature=1.0):
    (tmp_path / 'b.pth').write_bytes(b'')
    calibration = Calibration(
        {name: (temperature,)}, {name: (0.8,)}, {name: '{}'}, 0.1, 'general'
    )
    return str(save_calibration(tmp_path / 'b.pth', calibration))


def test_a_static_network_has_one_exit_and_one_point(tmp_path):
    """A model without exits, in a loop that knows no operating points."""
    sample = DataSample().set_pred_score(torch.tensor([0.6, 0.3, 0.1])).set_gt_label(1)
    found = report([sample], one_point(tmp_path, 'dense'))
    assert found == {
        'uncertainty/ece': pytest.approx(60, abs=1e-5),
        'uncertainty/coverage': 100,
        'uncertainty/set_size': 2,
    }


def test_certain_predictions_stay_finite(tmp_path):
    """Scores of 0 in single precision have no logarithm, but are at least 2 ** -126."""
    sample = DataSample().set_pred_score(torch.tensor([1.0, 0.0, 0.0])).set_gt_label(0)
    found = report([sample] * 3, one_point(tmp_path, 'dense'))
    assert found['uncertainty/ece'] == pytest.approx(0, abs=1e-9)
    assert found['uncertainty/set_size'] == 1
    found = report([sample] * 3, one_point(tmp_path, 'dense', temperature=50.0))
    doubt = 1 - 1 / (1 + 2 * 2 ** (-126 / 50))
    assert found['uncertainty/ece'] == pytest.approx(100 * doubt)


def test_without_calibration_raw_scores_are_named_as_such():
    log_probabilities, labels, _ = draw(80)
    samples = predictions(log_probabilities, labels)
    scores = np.exp(log_probabilities[0].astype(float))
    correct = scores.argmax(axis=1) == labels
    error = 100 * expected_calibration_error(scores.max(axis=1), correct)
    expected = {'uncertainty/ece_uncalibrated': pytest.approx(error, abs=1e-4)}
    evaluator = Evaluator(dict(type='mmdyn.UncertaintyReport'))
    evaluator.process(samples)
    with pytest.warns(UserWarning, match='run tools/analysis_tools/calibrate.py'):
        assert evaluator.evaluate(80) == expected
    evaluator.process(samples)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)  # once is enough
        assert evaluator.evaluate(80) == expected


@pytest.mark.parametrize(
    'point, message',
    [
        (
            OperatingPoint('careful'),
            "operating point 'careful' has not been calibrated, only 'quick', 'exit=1': "
            'run tools/analysis_tools/calibrate.py again, with this point',
        ),
        (
            OperatingPoint('quick', dict(thresholds=(0.4,))),
            r'the settings ."thresholds": .0.5.., and is ."thresholds": .0.4.. now',
        ),
        (None, "not known, and 'quick', 'exit=1' are calibrated: use mmdyn.Operating"),
    ],
)
def test_points_that_were_not_calibrated(file, hub, point, message):
    hub.update_info(ACTIVE_POINT, point, resumed=False)
    with pytest.raises(ValueError, match=message):
        report(predictions(*draw(3)), file)


def test_exits_that_were_not_calibrated(file, hub):
    hub.update_info(ACTIVE_POINT, QUICK, resumed=False)
    log_probabilities, labels, _ = draw(2, scales=(1, 1, 1))
    samples = predictions(log_probabilities, labels, [0, 2])
    message = r'the calibration is of exits 1…2, got predictions of exits \[1, 3\]'
    with pytest.raises(ValueError, match=message):
        report(samples, file)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'temperatures': {'quick': [1, 1]}},
            r'of the same points, got \[.quick.\], \[.quick',
        ),
        ({'temperatures': {'quick': [], 'exit=1': [1]}}, r'positive, got \(\)'),
        ({'temperatures': {'quick': [1, 0], 'exit=1': [1]}}, r'positive, got \(1.0, 0.0'),
        ({'thresholds': {'quick': [0.5], 'exit=1': [1]}}, "of 'quick' must be 2, one an"),
        (
            {'thresholds': {'quick': [0.5, 2], 'exit=1': [1]}},
            r'in \[0, 1\], got \(0.5, 2.0\)',
        ),
        (dict(alpha=1), r'alpha must lie in \(0, 1\), got 1'),
        (dict(method='gate'), "unknown method 'gate'; valid ones: general, ims"),
        (dict(bins=3), r"a calibration has \['alpha', .*, got \['alpha', 'bins'"),
    ],
)
def test_files_that_hold_no_calibration(tmp_path, changes, message):
    path = tmp_path / 'a.calibration.json'
    content = {**CALIBRATION.to_json(), **changes}
    path.write_text(json.dumps(dict(calibration=content)))
    with pytest.raises(ValueError, match=message):
        report([], str(path))


def test_other_refusals(tmp_path):
    with pytest.raises(ValueError, match='bins must be 1 or more, got 0'):
        report([], bins=0)
    with pytest.raises(ValueError, match='no images to fit a temperature on'):
        fit_calibration({QUICK: Predictions(np.zeros((2, 0, 3)), [], [])})
    with pytest.raises(ValueError, match='run tools/analysis_tools/calibrate.py again'):
        (tmp_path / 'a.json').write_text('{}')
        read_calibration(tmp_path / 'a.json')
