"""Metrics of the uncertainty of a classifier: calibration error and conformal sets."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import MessageHub

from mmdyn.evaluation.uncertainty.calibration import AGAIN, read_calibration
from mmdyn.evaluation.uncertainty.conformal import prediction_sets
from mmdyn.evaluation.uncertainty.predictions import single_labels
from mmdyn.evaluation.uncertainty.reliability import check_bins, reliability_bins
from mmdyn.evaluation.uncertainty.temperature import apply_temperature, log_of_scores
from mmdyn.registry import METRICS

ACTIVE_POINT = 'operating_point'
"""Key of the current ``MessageHub`` for the evaluated point; None if unknown."""


@METRICS.register_module()
class CalibrationError(BaseMetric):
    """Expected calibration error of a classifier, in percent, as ``calibration/ece``.

    For predictions of one label, with ``pred_score`` and ``gt_label``, as those of
    mmpretrain's classifiers. Scores are taken as they are: no temperature is fitted.

    Args:
        bins (int): Bins of equal count, 1 or more.

    Example:
        >>> val_evaluator = [
        ...     dict(type='Accuracy', topk=(1,)),
        ...     dict(type='mmdyn.CalibrationError')]
    """

    default_prefix = 'calibration'

    def __init__(self, bins: int = 15):
        super().__init__()
        check_bins(bins)
        self.bins = bins

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        scores, labels = _scores_and_labels(data_samples)
        correct = scores.argmax(axis=1) == labels
        self.results += zip(scores.max(axis=1).tolist(), correct.tolist())

    def compute_metrics(self, results: list) -> dict[str, float]:
        return dict(
            ece=100 * reliability_bins(*zip(*results), self.bins).calibration_error
        )


@METRICS.register_module()
class UncertaintyReport(CalibrationError):
    """Calibration error, and coverage and size of conformal sets, of a classifier.

    For predictions of one label, with ``pred_score``, ``gt_label`` and, where a model has
    exits, ``exit_index``, the number (from 1) of their exit, at whose temperature scores
    are taken. Gives, in percent, ``uncertainty/ece`` and ``uncertainty/coverage`` (the
    share of sets that hold the true class, about 1 − α if calibrated well), and
    ``uncertainty/set_size`` in classes; without a calibration
    ``uncertainty/ece_uncalibrated`` alone, in percent.

    Args:
        calibration (str | None): A file that tools/analysis_tools/calibrate.py wrote.
            tools/test.py fills in the one beside the checkpoint.
        bins (int): Bins of equal count of the calibration error, 1 or more.

    Example:
        >>> test_evaluator = [
        ...     dict(type='Accuracy', topk=(1,)),
        ...     dict(type='mmdyn.UncertaintyReport')]
    """

    default_prefix = 'uncertainty'

    def __init__(self, calibration: str | None = None, bins: int = 15):
        super().__init__(bins)
        self.calibration = read_calibration(calibration) if calibration else None
        self._has_warned = False

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        if self.calibration is None:
            return super().process(data_batch, data_samples)
        scores, labels = _scores_and_labels(data_samples)
        exits = np.array([sample.get('exit_index', 1) for sample in data_samples])
        probabilities, sets = self._calibrated(scores, exits)
        # The predicted class is that of raw scores: rounding must not change it.
        correct = scores.argmax(axis=1) == labels
        covered = sets[np.arange(len(labels)), labels]
        columns = probabilities.max(axis=1), correct, covered, sets.sum(axis=1)
        self.results += np.column_stack(columns).tolist()

    def _calibrated(self, scores: np.ndarray, exits: np.ndarray) -> tuple:
        """Probabilities and sets (N, K) of images that left at some exits, from 1."""
        point = MessageHub.get_current_instance().get_info(ACTIVE_POINT)
        temperatures, thresholds = self.calibration.at(point)
        number = len(temperatures)
        places = exits - 1 if number > 1 else 0 * exits  # 0: the only exit or path
        if places.min() < 0 or places.max() >= number:
            raise ValueError(
                f'the calibration is of exits 1…{number}, got predictions of exits '
                f'{sorted(set(exits.tolist()))}: {AGAIN} again'
            )
        probabilities = apply_temperature(log_of_scores(scores), temperatures[places])
        return probabilities, prediction_sets(probabilities, places, thresholds)

    def compute_metrics(self, results: list) -> dict[str, float]:
        if self.calibration is None:
            if not self._has_warned:
                raw = 'UncertaintyReport has no calibration and reports raw scores alone'
                warnings.warn(f'{raw}: {AGAIN}', stacklevel=2)
            self._has_warned = True
            return dict(ece_uncalibrated=super().compute_metrics(results)['ece'])
        *predictions, covered, sizes = zip(*results)
        return dict(
            **super().compute_metrics(zip(*predictions)),
            coverage=100 * float(np.mean(covered)),
            set_size=float(np.mean(sizes)),
        )


def _scores_and_labels(data_samples: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) in double precision, and labels (N,), of a batch."""
    for name in ('pred_score', 'gt_label'):
        if any(name not in sample for sample in data_samples):
            raise ValueError(f'uncertainty cannot be measured without {name}')
    labels = single_labels([sample['gt_label'] for sample in data_samples])
    scores = torch.stack([sample['pred_score'] for sample in data_samples])
    scores = scores.double().cpu().numpy()
    # Scores of several labels and similarities do not sum to 1; half precision nearly.
    total = max(scores.sum(axis=1), key=lambda total: abs(total - 1))
    if abs(total - 1) > 0.02:
        raise ValueError(
            f'pred_score must be probabilities, which sum to 1, got a sum of {total:.4g}'
        )
    return scores, labels
