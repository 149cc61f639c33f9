"""Fitting of temperatures and conformal thresholds on validation images.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., sections 3 and 5: each exit
gets a temperature, and then each operating point its thresholds of conformal sets.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from mmdyn.evaluation.uncertainty.calibration import Calibration, fingerprint
from mmdyn.evaluation.uncertainty.conformal import (
    MIN_SAMPLES,
    ConformalThresholds,
    conformal_thresholds,
)
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
    same images, which matters only where images are few.

    Args:
        predictions (Mapping[OperatingPoint, Predictions]): By the operating point.
        alpha (float): Share of sets that may lack the true class, in (0, 1).
        method (str): One of :data:`mmdyn.evaluation.uncertainty.conformal.METHODS`.

    Returns:
        tuple[Calibration, list[str]]: The calibration, and notes for its user on exits
        with too few images.
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
        notes += [f'{name}: {note}' for note in _notes(method, found)]
    return Calibration(temperatures, thresholds, settings, alpha, method), notes


def _notes(method: str, found: ConformalThresholds) -> Iterator[str]:
    total = found.counts.sum()
    images, here = (
        f'{total} validation images',
        'the threshold of all images is used there',
    )
    unused = [str(exit) for exit, count in enumerate(found.counts, 1) if not count]
    if method == 'gated' and unused:
        yield f'none of {images} leaves at exit {", ".join(unused)}: {here}'
    for exit, (threshold, count, too_few) in enumerate(zip(*found), 1):
        if too_few and count:
            few = f'only {count} of {images} leave at exit {exit}'
            yield f'{few}, fewer than {MIN_SAMPLES}: {here}'
        elif too_few and method == 'strict' and found.counts.max() < total:
            yield (
                f'none of {images} leaves at exit {exit}: the sets of images that do '
                f'will be empty'
            )
        elif count and threshold >= 1:
            yield (
                f'the sets of images that leave at exit {exit}, as {count} of {images} '
                f'do, will hold every class'
            )
