import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdyn import OperatingPoint
from mmdyn.evaluation.uncertainty.calibration import (
    Calibration,
    calibration_file,
    load_calibration,
    read_calibration,
    save_calibration,
)
from mmdyn.evaluation.uncertainty.conformal import METHODS, conformal_thresholds
from mmdyn.evaluation.uncertainty.fitting import fit_calibration
from mmdyn.evaluation.uncertainty.predictions import Predictions
from mmdyn.evaluation.uncertainty.temperature import apply_temperature, fit_temperature
from mmdyn.operating_point import OLD_NAMES

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
                st.text(max_size=5).filter(lambda name: name not in OLD_NAMES),
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
    again = Calibration.from_json(json.loads(json.dumps(asdict(calibration))))
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
    content = {**asdict(CALIBRATION), **changes}
    path.write_text(json.dumps(dict(calibration=content)))
    with pytest.raises(ValueError, match=message):
        read_calibration(path)


def test_old_names_of_the_dense_point_are_read():
    old = Calibration(
        {'full': (2.0,), 'quick': (1.0,), 'full+exit=1': (1.5,)},
        {'full': (0.6,), 'quick': (0.5,), 'full+exit=1': (0.7,)},
        {'full': '{}', 'quick': '{"thresholds": [0.5]}', 'full+exit=1': '{}'},
        0.1,
        'gated',
    )
    found = Calibration.from_json(asdict(old))
    assert [*found.temperatures] == ['dense', 'quick', 'dense+exit=1']
    temperatures, thresholds = found.at(OperatingPoint('dense'))
    assert (temperatures.tolist(), thresholds.tolist()) == ([2.0], [0.6])


def test_other_refusals(tmp_path):
    with pytest.raises(ValueError, match='no images to fit a temperature on'):
        fit_calibration({QUICK: Predictions(np.zeros((2, 0, 3)), [], [])})
    with pytest.raises(ValueError, match='run tools/analysis_tools/calibrate.py again'):
        (tmp_path / 'a.json').write_text('{}')
        read_calibration(tmp_path / 'a.json')
