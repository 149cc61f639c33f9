import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from test_evaluation.test_uncertainty.test_calibration import (
    CALIBRATION,
    CLASSES,
    EXITS,
    FIRST,
    QUICK,
    draw,
)
from test_evaluation.test_uncertainty.test_reliability import (
    by_hand,
    expected_calibration_error,
)
from test_evaluation.test_uncertainty.test_reliability import draw as logits_and_labels

from mmdyn import OperatingPoint
from mmdyn.evaluation.uncertainty.calibration import Calibration, save_calibration
from mmdyn.evaluation.uncertainty.conformal import prediction_sets
from mmdyn.evaluation.uncertainty.fitting import fit_calibration
from mmdyn.evaluation.uncertainty.metric import ACTIVE_POINT
from mmdyn.evaluation.uncertainty.predictions import Predictions
from mmdyn.evaluation.uncertainty.temperature import apply_temperature


@pytest.fixture(autouse=True)
def hub():
    """The current message hub, which forgets the active operating point."""
    hub = MessageHub.get_current_instance()
    yield hub
    hub.update_info(ACTIVE_POINT, None, resumed=False)


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
        'uncertainty/coverage': pytest.approx(
            100 * sets[np.arange(len(sets)), labels].mean()
        ),
        'uncertainty/set_size': pytest.approx(sets.sum(axis=1).mean()),
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


def test_other_refusals():
    for metric in ('CalibrationError', 'UncertaintyReport'):
        with pytest.raises(ValueError, match='bins must be 1 or more, got 0'):
            Evaluator(dict(type=f'mmdyn.{metric}', bins=0))


def calibration_error(**arguments):
    return Evaluator(dict(type='mmdyn.CalibrationError', **arguments))


def one_label(scores, label):
    return DataSample().set_pred_score(torch.as_tensor(scores)).set_gt_label(label)


@pytest.mark.parametrize('bins', [15, 4])
def test_calibration_error_collects_batches(bins):
    logits, labels = logits_and_labels(50, 4)
    scores = torch.from_numpy(3 * logits).float().softmax(dim=1)
    samples = [one_label(s, int(label)) for s, label in zip(scores, labels)]
    metric = calibration_error(bins=bins)
    for start in range(0, 50, 16):
        metric.process(samples[start : start + 16])
    correct = scores.argmax(dim=1).numpy() == labels
    expected = 100 * by_hand(scores.max(dim=1).values.tolist(), correct, bins)
    assert metric.evaluate(50) == {'calibration/ece': pytest.approx(expected, abs=1e-6)}
    # A second evaluation starts afresh; padding of the last rank is dropped.
    metric.process([one_label([0.25, 0.75], 1), one_label([0.25, 0.75], 0)])
    assert metric.evaluate(1) == {'calibration/ece': pytest.approx(25)}


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (DataSample().set_pred_label(1).set_gt_label(1), 'without pred_score$'),
        (DataSample().set_pred_score(torch.ones(1)), 'without gt_label$'),
        (one_label([0.5, 0.5], [0, 1]), 'one label an image, got 2 labels'),
        (one_label([0.9, 0.8], 0), 'which sum to 1, got a sum of 1.7'),
    ],
)
def test_metric_refuses_what_is_no_single_label(sample, message):
    with pytest.raises(ValueError, match=message):
        calibration_error().process([sample])


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
