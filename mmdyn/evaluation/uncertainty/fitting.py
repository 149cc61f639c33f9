"""Fitting of temperatures and conformal thresholds on validation images.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., sections 3 and 5: each exit
gets a temperature, and then each operating point its thresholds of conformal sets.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from mmdyn.evaluation.uncertainty.calibration import Calibration, fingerprint
from mmdyn.evaluation.uncertainty.conformal import MIN_SAMPLES, conformal_thresholds
from mmdyn.evaluation.uncertainty.predictions import Predictions
from mmdyn.evaluation.uncertainty.temperature import apply_temperature, fit_temperature
from mmdyn.operating_point import OperatingPoint


def fit_calibration(
    predictions: Mapping[OperatingPoint, Predictions],
    alpha: float = 0.05,
    method: str = 'gated',
) -> tuple[Calibration, list[str]]:
    """Fit temperatures, and thresholds at these temperatures, on validation images.

    The temperature of an exit is fitted on all images, also those that leave elsewhere.
    Neither training nor a search of thresholds may have used the images: the coverage
    holds for new ones. As in the paper, temperatures and thresholds are fitted on the
    same images, which matters only where images are few. Also returns notes for the user
    on exits with too few images.
    """
    temperatures, thresholds, settings, notes = {}, {}, {}, []
    for point, (log_probabilities, labels, exits) in predictions.items():
        name, places = point.name, (np.arange(len(labels)), np.asarray(labels))
        temperatures[name] = [fit_temperature(each, labels) for each in log_probabilities]
        scores = np.stack(
            [  # exit by exit: probabilities of all exits at once may be gigabytes
                1 - apply_temperature(each, temperature)[places]
                for each, temperature in zip(log_probabilities, temperatures[name])
            ]
        )
        found = conformal_thresholds(method, scores, exits, alpha)
        thresholds[name], settings[name] = found.thresholds, fingerprint(point)
        notes += [f'{name}: {note}' for note in _notes(method, *found)]
    return Calibration(temperatures, thresholds, settings, alpha, method), notes


def _notes(method: str, thresholds, counts, fallback) -> Iterator[str]:
    total, here = counts.sum(), 'the threshold of all images is used there'
    images = f'{total} validation images'
    unused = [str(exit) for exit, count in enumerate(counts, 1) if not count]
    if method == 'gated' and unused:
        yield f'none of {images} leaves at exit {", ".join(unused)}: {here}'
    columns = zip(thresholds, counts, fallback)
    for exit, (threshold, count, few) in enumerate(columns, 1):
        if few and count:
            leave = f'only {count} of {images} leave at exit {exit}'
            yield f'{leave}, fewer than {MIN_SAMPLES}: {here}'
        elif few and method == 'strict' and counts.max() < total:
            sets = 'the sets of images that do will be empty'
            yield f'none of {images} leaves at exit {exit}: {sets}'
        elif count and threshold >= 1:
            sets = f'the sets of images that leave at exit {exit}'
            yield f'{sets}, as {count} of {images} do, will hold every class'
