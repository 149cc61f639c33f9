"""What a network's probabilities are worth: calibrated once, then reported with tests.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., sections 3 and 5: the logits
of each exit get a temperature on validation images, and on the probabilities at these
temperatures rest the thresholds of conformal sets, for each operating point its own.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub

from mmdyn.evaluation.uncertainty.conformal import (
    METHODS,
    MIN_SAMPLES,
    ConformalThresholds,
    conformal_thresholds,
    prediction_sets,
)
from mmdyn.evaluation.uncertainty.reliability import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    scores_and_labels,
)
from mmdyn.operating_point import OperatingPoint
from mmdyn.registry import METRICS
from mmdyn.utils.sidecar import read_sidecar, write_sidecar

ACTIVE_POINT = 'operating_point'
"""Under this name the current ``MessageHub`` has the operating point that is evaluated;
nothing, or None, where it is not known."""

_AGAIN = 'run tools/analysis_tools/calibrate.py'

# A score that single precision has as 0 has no logarithm: it gets that of the least one.
_LEAST_SCORE = float(np.finfo(np.float32).tiny)


class Predictions(NamedTuple):
    """What a network says of N images at an operating point with M exits.

    Where no image can choose (one exit, a budget), there is one exit: M is 1.

    Args:
        log_probabilities (np.ndarray): Of K classes at each exit for each image,
            (M, N, K).
        labels (np.ndarray): Classes of the images (N,), from 0.
        exits (np.ndarray): Where each image leaves (N,), from 0.
    """

    log_probabilities: np.ndarray
    labels: np.ndarray
    exits: np.ndarray


def fingerprint(point: OperatingPoint) -> str:
    """What tells a point from another one of its name: its settings, as JSON."""
    return json.dumps(point.settings, sort_keys=True, default=_plain)


def _plain(value):
    return dict(value) if isinstance(value, Mapping) else str(value)


@dataclass(frozen=True)
class Calibration:
    """What was found on validation images for a network.

    Args:
        temperatures (Mapping[str, tuple[float, ...]]): By the name of the operating
            point, those of its exits (M), one where no image can choose.
        thresholds (Mapping[str, tuple[float, ...]]): By the name of the operating point,
            the conformal thresholds of its exits (M), of 1 − probability.
        settings (Mapping[str, str]): By the name of the operating point, its
            :func:`fingerprint`.
        alpha (float): Share of sets that may lack the true class, in (0, 1).
        method (str): How thresholds were chosen, one of
            :data:`mmdyn.evaluation.uncertainty.conformal.METHODS`.

    Raises:
        ValueError: If these cannot be of one network.
    """

    temperatures: Mapping[str, tuple[float, ...]] = field(hash=False)
    thresholds: Mapping[str, tuple[float, ...]] = field(hash=False)
    settings: Mapping[str, str] = field(hash=False)
    alpha: float
    method: str

    def __post_init__(self):
        for name in ('temperatures', 'thresholds'):
            values = {p: tuple(map(float, t)) for p, t in getattr(self, name).items()}
            object.__setattr__(self, name, values)
        object.__setattr__(self, 'settings', dict(self.settings))
        points = [list(each) for each in (self.temperatures, self.thresholds)]
        if points[0] != points[1] or points[0] != list(self.settings):
            raise ValueError(
                f'temperatures, thresholds and settings must be of the same points, got '
                f'{points[0]}, {points[1]} and {list(self.settings)}'
            )
        for point, values in self.thresholds.items():
            temperatures = self.temperatures[point]
            if not temperatures or not all(0 < t < math.inf for t in temperatures):
                raise ValueError(
                    f'the temperatures of {point!r} must be positive, got {temperatures}'
                )
            if len(values) != len(temperatures) or not all(0 <= v <= 1 for v in values):
                raise ValueError(
                    f'the thresholds of {point!r} must be {len(temperatures)}, one an '
                    f'exit, in [0, 1], got {values}'
                )
        if not 0 < self.alpha < 1:
            raise ValueError(f'alpha must lie in (0, 1), got {self.alpha}')
        if self.method not in METHODS:
            raise ValueError(
                f'unknown method {self.method!r}; valid ones: {", ".join(METHODS)}'
            )

    def to_json(self) -> dict:
        """The calibration as what JSON knows."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, content: Mapping) -> 'Calibration':
        """The calibration of what :meth:`to_json` gave.

        Raises:
            ValueError: If something is missing, unknown or impossible.
        """
        names = {each.name for each in fields(cls)}
        if set(content) != names:
            raise ValueError(
                f'a calibration has {sorted(names)}, got {sorted(content)}: {_AGAIN} '
                f'again'
            )
        return cls(**content)

    def at(self, point: OperatingPoint | None) -> tuple[np.ndarray, np.ndarray]:
        """The temperatures and thresholds, (M,) each, of an operating point.

        Args:
            point (OperatingPoint | None): The point; ``None``: the only one there is.

        Raises:
            ValueError: If it has not been calibrated, or with other settings.
        """
        names = ', '.join(map(repr, self.thresholds)) or 'none'
        if point is None:
            if len(self.thresholds) != 1:
                raise ValueError(
                    f'which operating point is evaluated is not known, and {names} are '
                    f'calibrated: use mmdyn.OperatingPointTestLoop'
                )
            name = next(iter(self.thresholds))
        elif point.name not in self.thresholds:
            raise ValueError(
                f'operating point {point.name!r} has not been calibrated, only {names}: '
                f'{_AGAIN} again, with this point'
            )
        elif self.settings[point.name] != fingerprint(point):
            raise ValueError(
                f'operating point {point.name!r} has been calibrated with the settings '
                f'{self.settings[point.name]}, and is {fingerprint(point)} now: {_AGAIN} '
                f'again'
            )
        else:
            name = point.name
        return np.array(self.temperatures[name]), np.array(self.thresholds[name])


def fit_calibration(
    predictions: Mapping[OperatingPoint, Predictions],
    alpha: float = 0.05,
    method: str = 'gated',
) -> tuple[Calibration, list[str]]:
    """Find temperatures, and thresholds at these, on validation images.

    The temperature of an exit is that of all images, wherever they leave. The coverage of
    the sets holds for images like these: they must be none that the network was trained
    on, or that thresholds of its policy were searched on. That temperatures are fitted on
    the very same images is a liberty of the paper's too; with one number an exit it is of
    no account unless images are very few.

    Args:
        predictions (Mapping[OperatingPoint, Predictions]): By the operating point.
        alpha (float): Share of sets that may lack the true class, in (0, 1).
        method (str): One of :data:`mmdyn.evaluation.uncertainty.conformal.METHODS`.

    Returns:
        tuple[Calibration, list[str]]: The calibration, and notes for its user on exits
        for which there were too few images.

    Raises:
        ValueError: If there are no images, shapes do not fit together, alpha is outside
            of (0, 1), or the method is unknown.
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


def calibration_file(checkpoint: str | Path) -> Path:
    """Where the calibration of a checkpoint is: ``epoch_9.calibration.json`` for
    ``epoch_9.pth``."""
    return Path(checkpoint).with_suffix('.calibration.json')


def save_calibration(checkpoint: str | Path, calibration: Calibration) -> Path:
    """Write a calibration to the file beside a checkpoint.

    Args:
        checkpoint (str | Path): The checkpoint that it was found for.
        calibration (Calibration): The calibration.

    Returns:
        Path: The file.
    """
    content = dict(calibration=calibration.to_json())
    return write_sidecar(calibration_file(checkpoint), checkpoint, content)


def load_calibration(checkpoint: str | Path) -> Calibration | None:
    """Read the calibration of a checkpoint.

    Args:
        checkpoint (str | Path): The checkpoint.

    Returns:
        Calibration | None: The calibration; ``None`` if there is no file beside it, or,
        with a warning, if the checkpoint has changed since.

    Raises:
        ValueError: If the file holds no calibration.
    """
    consequence = f', and is left out: {_AGAIN} again'
    content = read_sidecar(calibration_file(checkpoint), checkpoint, consequence)
    return None if content is None else _calibration_in(content)


def read_calibration(path: str | Path) -> Calibration:
    """Read a file that :func:`save_calibration` wrote, whatever its checkpoint is now.

    Args:
        path (str | Path): The file.

    Raises:
        ValueError: If the file holds no calibration.
    """
    return _calibration_in(json.loads(Path(path).read_text()))


def _calibration_in(content: Mapping) -> Calibration:
    return Calibration.from_json(content.get('calibration', {}))


def log_of_scores(scores: np.ndarray) -> np.ndarray:
    """Finite logarithms of probabilities in single precision."""
    return np.log(np.maximum(scores, _LEAST_SCORE))


@METRICS.register_module()
class UncertaintyReport(BaseMetric):
    """Calibration error, and coverage and size of conformal sets, of a classifier.

    For predictions of one label, with ``pred_score``, ``gt_label`` and, where a model has
    exits, ``exit_index``, the number (from 1) of the exit they come from. Scores are
    taken at the temperature of their exit. In percent it returns ``uncertainty/ece`` and
    ``uncertainty/coverage`` (the share of sets that hold the true class, to be about
    1 − α), and ``uncertainty/set_size`` in classes.

    Without a calibration there is ``uncertainty/ece_uncalibrated`` alone, in percent.

    Args:
        calibration (str | None): A file that tools/analysis_tools/calibrate.py wrote.
            tools/test.py fills in the one beside the checkpoint.
        bins (int): Bins of equal count of the calibration error.

    Raises:
        ValueError: If bins is less than 1, or the file holds no calibration.

    Example:
        >>> test_evaluator = [
        ...     dict(type='Accuracy', topk=(1,)),
        ...     dict(type='mmdyn.UncertaintyReport')]
    """

    default_prefix = 'uncertainty'

    def __init__(self, calibration: str | None = None, bins: int = 15):
        super().__init__()
        if bins < 1:
            raise ValueError(f'bins must be 1 or more, got {bins}')
        self.calibration = read_calibration(calibration) if calibration else None
        self.bins = bins
        self._has_warned = False

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep what the metrics need of each image: four numbers."""
        scores, labels = scores_and_labels(data_samples)
        # At any temperature the answer is the same, so rounding must not change it.
        correct = scores.argmax(axis=1) == labels
        if self.calibration is None:
            nothing = np.full(len(labels), np.nan)
            columns = scores.max(axis=1), correct, nothing, nothing
        else:
            exits = np.array([sample.get('exit_index', 1) for sample in data_samples])
            probabilities, sets = self._calibrated(scores, exits)
            covered = sets[np.arange(len(labels)), labels]
            columns = probabilities.max(axis=1), correct, covered, sets.sum(axis=1)
        self.results += np.column_stack(columns).tolist()

    def _calibrated(
        self, scores: np.ndarray, exits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities and sets (N, K) of images that left at some exits, from 1."""
        point = MessageHub.get_current_instance().get_info(ACTIVE_POINT)
        temperatures, thresholds = self.calibration.at(point)
        number = len(temperatures)
        if number == 1:  # where no image can choose, that is it
            exits = np.ones_like(exits)
        if exits.min() < 1 or exits.max() > number:
            raise ValueError(
                f'the calibration is of exits 1…{number}, got predictions of exits '
                f'{sorted(set(exits.tolist()))}: {_AGAIN} again'
            )
        log_probabilities = log_of_scores(scores)
        probabilities = apply_temperature(log_probabilities, temperatures[exits - 1])
        return probabilities, prediction_sets(probabilities, exits - 1, thresholds)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average over the images of all ranks."""
        confidences, correct, covered, sizes = np.array(results).T
        error = 100 * expected_calibration_error(confidences, correct, self.bins)
        if self.calibration is None:
            self._warn_once()
            return dict(ece_uncalibrated=error)
        return dict(
            ece=error, coverage=100 * float(covered.mean()), set_size=float(sizes.mean())
        )

    def _warn_once(self) -> None:
        if not self._has_warned:
            warnings.warn(
                f'UncertaintyReport has no calibration, so it reports the calibration '
                f'error of raw scores alone: {_AGAIN}',
                stacklevel=2,
            )
        self._has_warned = True
