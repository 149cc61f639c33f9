"""Conformal sets: classes that include the true one with a chosen probability.

Jointly-Learned Exit and Inference (JEI-DNN), Regol et al., Eqs. 2 and 10, Appendix 9.3.
The score of a class is 1 − its probability; a set holds the classes with a score of at
most a threshold, which comes from the true classes of validation images.
"""

import math
from typing import NamedTuple

import numpy as np

METHODS = ('general', 'ims', 'strict', 'gated')
"""Ways of choosing the threshold of each exit, by the paper's names for them."""

MIN_SAMPLES = 20
"""Fewest images for which ``gated`` gives an exit a threshold of its own. With fewer than
19, a coverage of 95 % needs a threshold that admits all classes."""

_ROUNDING = 1e-9  # of products, which must not be off by one image


def check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f'alpha must lie in (0, 1), got {alpha}')


def check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(f'unknown method {method!r}; valid ones: {", ".join(METHODS)}')


def conformal_threshold(scores: np.ndarray, alpha: float) -> float:
    """The threshold at which sets hold the true class with a probability of 1 − α.

    It is the ⌈(n + 1)(1 − α)⌉-th smallest of the scores (n,) of true classes, no plain
    quantile, as a new image is one of n + 1; 1, which admits all, where n is too small.
    """
    check_alpha(alpha)
    scores = np.sort(np.asarray(scores, dtype=float))
    if not len(scores):
        raise ValueError('there are no scores to take a threshold of')
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - _ROUNDING)
    return float(scores[rank - 1]) if rank <= len(scores) else 1.0


class ConformalThresholds(NamedTuple):
    """The thresholds of M exits, and the number of images behind each."""

    thresholds: np.ndarray  # M, in [0, 1]
    counts: np.ndarray  # M: validation images that leave at each exit
    fallback: np.ndarray  # M: whether they were too few for a threshold of its own


def conformal_thresholds(
    method: str, scores: np.ndarray, exits: np.ndarray, alpha: float
) -> ConformalThresholds:
    """Choose a threshold for each exit (JEI-DNN, Appendix 9.3).

    - ``general``: one threshold for all exits, from each image's score at the exit where
      it leaves. Its coverage holds over all images, not for those of each exit.
    - ``ims``: from the exit's scores of all images. Its coverage holds where all images
      leave at one exit; otherwise early, easy images are covered more than late ones.
    - ``strict``: from the images that leave at the exit, so its coverage holds for the
      images of each exit; 0 where no image leaves, which admits only certain classes.
    - ``gated``: as ``strict``, but the threshold of ``general`` where fewer than
      :data:`MIN_SAMPLES` images leave.

    Scores (M, N) are of the true class at M exits; ``exits`` (N,), from 0, those where
    the images leave; alpha is the share of sets that may lack the true class.
    """
    check_method(method)
    scores, exits = np.asarray(scores, dtype=float), np.asarray(exits, dtype=int)
    if scores.ndim != 2 or exits.shape != scores.shape[1:]:
        raise ValueError(
            f'scores must be (M, N) and exits (N,), got {scores.shape} and {exits.shape}'
        )
    _check_exits(exits, len(scores))
    own = scores[exits, np.arange(len(exits))]
    general = conformal_threshold(own, alpha)
    leaving = [own[exits == exit] for exit in range(len(scores))]
    counts = np.array([len(each) for each in leaving])
    everyone = [own] * len(scores)
    samples = dict(general=everyone, ims=scores, strict=leaving, gated=leaving)[method]
    fallback = counts < {'strict': 1, 'gated': MIN_SAMPLES}.get(method, 0)
    instead = 0.0 if method == 'strict' else general
    thresholds = [
        instead if too_few else conformal_threshold(each, alpha)
        for each, too_few in zip(samples, fallback)
    ]
    return ConformalThresholds(np.array(thresholds), counts, fallback)


def prediction_sets(
    probabilities: np.ndarray, exits: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
    """Whether each class is in the set of each image (N, K) (JEI-DNN, Eq. 10).

    Probabilities (N, K) are those at the exit (N,), from 0, where each image leaves. The
    paper requires a score below the threshold (M,). A score at it is admitted here, which
    keeps the coverage where many scores are equal.
    """
    exits, thresholds = np.asarray(exits, dtype=int), np.asarray(thresholds)
    _check_exits(exits, len(thresholds))
    return 1 - np.asarray(probabilities, dtype=float) <= thresholds[exits][:, None]


def _check_exits(exits: np.ndarray, number: int) -> None:
    outside = sorted(set(exits[(exits < 0) | (exits >= number)].tolist()))
    if outside:
        raise ValueError(f'exits must lie in 0…{number - 1}, got {outside}')
