"""Temperature scaling of predicted probabilities.

On Calibration of Modern Neural Networks, Guo et al.; used in Jointly-Learned Exit and
Inference (JEI-DNN), Regol et al., Appendix 9.2.
"""

import numpy as np
import torch

TEMPERATURE_RANGE = (0.01, 100.0)
"""Temperatures to choose from. The best one would be 0 where all predictions are right,
and infinite where they do not depend on the class."""

_HALVINGS = 20  # of the range of log T: to a relative precision of 1e-5

# A score that single precision has as 0 has no logarithm: it gets that of the least one.
_LEAST_SCORE = float(np.finfo(np.float32).tiny)


def log_of_scores(scores: np.ndarray) -> np.ndarray:
    """Finite logarithms of probabilities in single precision."""
    return np.log(np.maximum(scores, _LEAST_SCORE))


def apply_temperature(
    log_probabilities: np.ndarray, temperature: float | np.ndarray
) -> np.ndarray:
    """Probabilities (N, K) of logits (N, K) at a temperature or one per image (N,)."""
    temperature = np.asarray(temperature, dtype=float)
    if not (temperature > 0).all():
        raise ValueError(f'temperatures must be positive, got {temperature.min()}')
    logits = np.asarray(log_probabilities, dtype=float) / temperature[..., None]
    return torch.from_numpy(logits).softmax(dim=1).numpy()  # NumPy has no softmax


def fit_temperature(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, in :data:`TEMPERATURE_RANGE`, of the least mean log-loss.

    It is 1 where none near it is better, as where all classes are equally probable.
    Logits serve as well as log-probabilities (N, K): they differ by a constant per image.
    """
    logits, labels = np.asarray(log_probabilities, dtype=float), np.asarray(labels)
    _check(logits, labels)
    # The loss is the mean log-sum-exp of these margins / T.
    margins = logits - np.take_along_axis(logits, labels[:, None], axis=1)
    low, high = np.log(TEMPERATURE_RANGE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The loss is convex in 1 / T, and this is its slope there.
        slope = np.vdot(apply_temperature(margins, np.exp(middle)), margins)
        if slope == 0:
            break
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def _check(logits: np.ndarray, labels: np.ndarray) -> None:
    shape = logits.shape
    if len(shape) != 2 or labels.shape != shape[:1]:
        raise ValueError(
            f'log-probabilities must be (N, K) and labels (N,), got {shape} and '
            f'{labels.shape}'
        )
    if not len(labels):
        raise ValueError('there are no images to fit a temperature on')
    low, high = labels.min(), labels.max()
    if low < 0 or high >= shape[1]:
        raise ValueError(f'labels must lie in 0…{shape[1] - 1}, got {low}…{high}')
    if not np.isfinite(logits).all():
        raise ValueError('log-probabilities must be finite: take a log-softmax of logits')
