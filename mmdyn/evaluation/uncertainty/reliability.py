"""Are predicted probabilities those of being right, and a temperature to make them so.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., Appendix 9.2; both ideas are
those of On Calibration of Modern Neural Networks, Guo et al.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from mmdyn.registry import METRICS

TEMPERATURE_RANGE = (0.01, 100.0)
"""Temperatures to choose from. Where all answers are right, the best one would be 0;
where they say nothing about the class, infinite."""

_HALVINGS = 20  # of the range of log T: to a relative precision of 1e-5


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature of the least negative log-likelihood.

    Log-probabilities are logits up to a constant for each image, which a softmax does not
    see, so they do as well as logits.

    Args:
        log_probabilities (np.ndarray): Of K classes for each of N images, (N, K); finite.
        labels (np.ndarray): Classes of the images (N,), from 0.

    Returns:
        float: The temperature, within :data:`TEMPERATURE_RANGE`; 1 where none near it is
        better, as where all classes are equally probable.

    Raises:
        ValueError: If there are no images, a log-probability is not finite, or labels and
            log-probabilities do not fit together.
    """
    logits, labels = np.asarray(log_probabilities, dtype=float), np.asarray(labels)
    _check_log_probabilities(logits, labels)
    # The loss is the mean log-sum-exp of these margins / T.
    margins = logits - np.take_along_axis(logits, labels[:, None], axis=1)
    low, high = np.log(TEMPERATURE_RANGE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The loss is convex in 1 / T, and this is its slope there.
        slope = np.vdot(apply_temperature(margins, np.exp(middle)), margins)
        if slope == 0:
            break
        if slope > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def apply_temperature(
    log_probabilities: np.ndarray, temperature: float | np.ndarray
) -> np.ndarray:
    """Probabilities at a temperature; above 1 they are less sure, below 1 surer.

    Args:
        log_probabilities (np.ndarray): Log-probabilities or logits of K classes for each
            of N images, (N, K).
        temperature (float | np.ndarray): Of all images, or of each (N,).

    Returns:
        np.ndarray: Probabilities (N, K) in double precision. The most probable class
        stays it.

    Raises:
        ValueError: If a temperature is not positive.
    """
    temperature = np.asarray(temperature, dtype=float)
    if not (temperature > 0).all():
        raise ValueError(f'temperatures must be positive, got {temperature.min()}')
    logits = np.asarray(log_probabilities, dtype=float) / temperature[..., None]
    return torch.from_numpy(logits).softmax(dim=1).numpy()  # NumPy has no softmax


@dataclass(frozen=True)
class ReliabilityBins:
    """How sure predictions are, and how often they are right, in bins of equal count.

    Args:
        counts (np.ndarray): Images of each bin (B,); none is empty.
        confidences (np.ndarray): Their mean confidence (B,), rising, in [0, 1].
        accuracies (np.ndarray): The share of them that is right (B,).
    """

    counts: np.ndarray
    confidences: np.ndarray
    accuracies: np.ndarray

    @property
    def calibration_error(self) -> float:
        """The expected calibration error of JEI-DNN, Eq. 19, in [0, 1]."""
        gaps = np.abs(self.accuracies - self.confidences)
        return float(np.average(gaps, weights=self.counts))


def reliability_bins(
    confidences: np.ndarray, correct: np.ndarray, bins: int = 15
) -> ReliabilityBins:
    """Sort images by confidence into bins of equal count (JEI-DNN, Eq. 19).

    Bin b ends before place ⌊N·b / B⌋. Images of the very same confidence, which the
    paper's order leaves open, each count with the share of them that is right, so that
    the order in which images come does not matter.

    Args:
        confidences (np.ndarray): Probability of the predicted class of N images (N,).
        correct (np.ndarray): Whether the prediction is right (N,).
        bins (int): B; with fewer images than that, each is a bin.

    Returns:
        ReliabilityBins: The bins that are not empty.

    Raises:
        ValueError: If there are no images, no bins, or the arrays differ in length.
    """
    confidences = np.asarray(confidences, dtype=float)
    correct = np.asarray(correct, dtype=float)
    if confidences.ndim != 1 or confidences.shape != correct.shape:
        raise ValueError(
            f'confidences and correct must be of one length, got shapes '
            f'{confidences.shape} and {correct.shape}'
        )
    if not len(confidences):
        raise ValueError('there are no images to bin')
    if bins < 1:
        raise ValueError(f'bins must be 1 or more, got {bins}')
    values, places, ties = np.unique(confidences, return_inverse=True, return_counts=True)
    shares = np.bincount(places, correct) / ties
    order = np.argsort(places, kind='stable')
    edges = np.unique(np.arange(bins + 1) * len(order) // bins)
    counts = np.diff(edges)

    def mean(of_values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(of_values[places[order]], edges[:-1]) / counts

    return ReliabilityBins(counts, mean(values), mean(shares))


def expected_calibration_error(
    confidences: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
    """How far confidence is from accuracy, in the mean (JEI-DNN, Eq. 19).

    Args:
        confidences (np.ndarray): Probability of the predicted class of N images (N,).
        correct (np.ndarray): Whether the prediction is right (N,).
        bins (int): Bins of equal count, as of :func:`reliability_bins`.

    Returns:
        float: A share in [0, 1]; 0 is the best.

    Raises:
        ValueError: As :func:`reliability_bins`.
    """
    return reliability_bins(confidences, correct, bins).calibration_error


@METRICS.register_module()
class CalibrationError(BaseMetric):
    """Expected calibration error of a classifier, in percent, as ``calibration/ece``.

    For predictions of one label, with ``pred_score`` and ``gt_label``, as those of any
    mmpretrain classifier. Scores are taken as they are: no temperature is fitted.

    Args:
        bins (int): Bins of equal count.

    Raises:
        ValueError: If bins is less than 1.

    Example:
        >>> val_evaluator = [
        ...     dict(type='Accuracy', topk=(1,)),
        ...     dict(type='mmdyn.CalibrationError')]
    """

    default_prefix = 'calibration'

    def __init__(self, bins: int = 15):
        super().__init__()
        if bins < 1:
            raise ValueError(f'bins must be 1 or more, got {bins}')
        self.bins = bins

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep confidence and correctness of each prediction."""
        scores, labels = scores_and_labels(data_samples)
        correct = scores.argmax(axis=1) == labels
        self.results += zip(scores.max(axis=1).tolist(), correct.tolist())

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Bin the predictions of all ranks."""
        confidences, correct = zip(*results)
        return dict(ece=100 * expected_calibration_error(confidences, correct, self.bins))


def scores_and_labels(data_samples: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels in a batch of predictions of one label an image.

    Args:
        data_samples (Sequence[dict]): Predictions with ``pred_score`` (K,) and
            ``gt_label`` (1,).

    Returns:
        tuple[np.ndarray, np.ndarray]: Probabilities (N, K) in double precision, and
        labels (N,).

    Raises:
        ValueError: If there are no scores or labels, or they are those of several labels.
    """
    for sample in data_samples:
        missing = [name for name in ('pred_score', 'gt_label') if name not in sample]
        if missing:
            raise ValueError(
                f'uncertainty needs pred_score and gt_label of each image, got '
                f'predictions without {" and ".join(missing)}'
            )
        if sample['gt_label'].numel() != 1:
            raise ValueError(
                f'uncertainty is measured with one label an image, got '
                f'{sample["gt_label"].numel()} labels'
            )
    scores = torch.stack([sample['pred_score'] for sample in data_samples])
    scores = scores.double().cpu().numpy()
    # Those of several labels, and similarities, do not; half precision nearly does.
    totals = scores.sum(axis=1)
    if (abs(totals - 1) > 0.02).any():
        raise ValueError(
            f'pred_score must be probabilities of one label, which sum to 1, got a sum '
            f'of {totals[np.argmax(abs(totals - 1))]:.4g}'
        )
    labels = torch.cat([sample['gt_label'].reshape(1) for sample in data_samples])
    return scores, labels.cpu().numpy()


def _check_log_probabilities(log_probabilities: np.ndarray, labels: np.ndarray) -> None:
    shape = log_probabilities.shape
    if len(shape) != 2 or labels.shape != shape[:1]:
        raise ValueError(
            f'log-probabilities must be (N, K) and labels (N,), got {shape} and '
            f'{labels.shape}'
        )
    if not len(labels):
        raise ValueError('there are no images to fit a temperature on')
    if labels.min() < 0 or labels.max() >= shape[1]:
        raise ValueError(
            f'labels must lie in 0…{shape[1] - 1}, got {labels.min()}…{labels.max()}'
        )
    if not np.isfinite(log_probabilities).all():
        raise ValueError(
            'log-probabilities must be finite: take them of logits, by a log-softmax'
        )
