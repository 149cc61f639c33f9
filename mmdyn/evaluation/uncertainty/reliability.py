"""Reliability of predicted probabilities: bins and expected calibration error.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., Appendix 9.2, after On
Calibration of Modern Neural Networks, Guo et al.
"""

from dataclasses import dataclass

import numpy as np


def check_bins(bins: int) -> None:
    if bins < 1:
        raise ValueError(f'bins must be 1 or more, got {bins}')


@dataclass(frozen=True)
class ReliabilityBins:
    """Mean confidence and accuracy of predictions, in B bins of equal count."""

    counts: np.ndarray  # B: images of each bin; none is empty
    confidences: np.ndarray  # B: their mean confidence, rising, in [0, 1]
    accuracies: np.ndarray  # B: the share of them that is correct

    @property
    def calibration_error(self) -> float:
        """Mean distance of confidence from accuracy (JEI-DNN, Eq. 19), in [0, 1]."""
        gaps = np.abs(self.accuracies - self.confidences)
        return float(np.average(gaps, weights=self.counts))


def reliability_bins(
    confidences: np.ndarray, correct: np.ndarray, bins: int = 15
) -> ReliabilityBins:
    """Sort images (N,) by confidence into bins of equal count (JEI-DNN, Eq. 19).

    Bin b ends before place ⌊N·b / B⌋; with fewer images than bins, each is a bin. The
    paper leaves the order of images of equal confidence open: here each counts with the
    share of them that is correct, so the order of the images does not matter.
    """
    confidences, correct = np.asarray(confidences, float), np.asarray(correct, float)
    if confidences.ndim != 1 or confidences.shape != correct.shape:
        raise ValueError(
            f'confidences and correct must be of one length, got shapes '
            f'{confidences.shape} and {correct.shape}'
        )
    if not len(confidences):
        raise ValueError('there are no images to bin')
    check_bins(bins)
    values, places, ties = np.unique(confidences, return_inverse=True, return_counts=True)
    shares = np.bincount(places, correct) / ties
    edges = np.unique(np.arange(bins + 1) * len(confidences) // bins)
    counts = np.diff(edges)
    pairs = np.repeat([values, shares], ties, axis=1)  # 2, N: sorted by confidence
    return ReliabilityBins(counts, *np.add.reduceat(pairs, edges[:-1], axis=1) / counts)
