"""Fitting of temperatures and conformal thresholds on validation images.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., sections 3 and 5: each exit
gets a temperature, and the thresholds of conformal sets are chosen at these temperatures,
for each operating point separately.
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

    The temperature of an exit is fitted on all images, including those that leave
    elsewhere. The coverage of the sets holds for images of the same distribution, so
    neither training nor a search of thresholds may have used these images. As in the
    paper, temperatures and thresholds are fitted on the same images, which matters only
    where images are few.

    Args:
        predictions (Mapping[OperatingPoint, Predictions]): By the operating point.
        alpha (float): Share of sets that may lack the true class, in (0, 1).
        method (str): One of :data:`mmdyn.evaluation.uncertainty.conformal.METHODS`.

    Returns:
        tuple[Calibration, list[str]]: The calibration, and notes for its user on exits
        for which there were too few images.

    Raises:
        ValueError: If there are no images, or an argument is not as described.
    """
    temperatures, thresholds, settings, notes = {}, {}, {}, []
    for point, (log_probabilities, labels, exits) in predictions.items():
        fitted = [fit_temperature(each, labels) for each in log_probabilities]
        places = np.arange(len(labels)), np.asarray(labels)
        scores = np.stack(
            [  # exit by exit: probabilities of all exits at once may be gigabytes
                1 - apply_temperature(each, temperature)[places]
                for each, temperature in zip(log_probabilities, fitted)
            ]
        )
        found = conformal_thresholds(method, scores, exits, alpha)
        name = point.name
        temperatures[name], thresholds[name] = tuple(fitted), tuple(found.thresholds)
        settings[name] = fingerprint(point)
        notes += _notes(name, method, found)
    return Calibration(temperatures, thresholds, settings, alpha, method), notes


def _notes(point: str, method: str, found: ConformalThresholds) -> Iterator[str]:
    images = found.counts.sum()
    unused = [str(exit) for exit, count in enumerate(found.counts, 1) if not count]
    if method == 'gated' and unused:
        yield (
            f'{point}: none of {images} validation images leaves at exit '
            f'{", ".join(unused)}: the threshold of all images is used there'
        )
    several = found.counts.max() < images
    columns = found.thresholds, found.counts, found.fallback
    for exit, (threshold, count, too_few) in enumerate(zip(*columns), 1):
        if too_few and count:
            yield (
                f'{point}: only {count} of {images} validation images leave at exit '
                f'{exit}, fewer than {MIN_SAMPLES}: the threshold of all images is used '
                f'there'
            )
        elif too_few and method == 'strict' and several:
            yield (
                f'{point}: none of {images} validation images leaves at exit {exit}: the '
                f'sets of images that do will be empty'
            )
        elif count and threshold >= 1:
            yield (
                f'{point}: the sets of images that leave at exit {exit}, as {count} of '
                f'{images} validation images do, will hold every class'
            )
