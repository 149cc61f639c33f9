"""Search of confidence thresholds for a cost or accuracy, on one record of all exits.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections
III-C and V-C; cost is their Eq. 5.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from mmdyn.methods.multi_exit.exit_record import ExitRecord
from mmdyn.methods.multi_exit.policies import exits_by_confidence

# Sums in another order must not decide whether a cost is within a limit.
_ROUNDING = 1e-9


class ThresholdSearch:
    """Thresholds for a cost or accuracy: the best of a grid, refined one exit at a time.

    Accuracy and cost of all combinations of the grid follow from sums over counts of
    images, without a loop over images or combinations. The more exits, the coarser is
    the grid. The refinement starts from its best combination, and from the best single
    threshold for all exits; one exit after the other takes its best candidate, until
    nothing improves.

    Args:
        record (ExitRecord): Confidence and correctness of all exits.
        combinations (int): Size of the grid, at most.

    Attributes:
        candidates (list[np.ndarray]): Thresholds of each exit in the grid, rising, at
            quantiles of its confidences, and 1.
        accuracy (np.ndarray): Share of right predictions, in percent; a dimension for
            each exit.
        macs (np.ndarray): Mean MACs per image, of the same shape (Eq. 5).

    Raises:
        ValueError: If the record has no images, or too many exits for such a grid.
    """

    fine = 200
    """Candidates of one exit in the refinement."""

    def __init__(self, record: ExitRecord, combinations: int = 10**6):
        images = record.correct.shape[1]
        if not images:
            raise ValueError('there are no images to search thresholds on')
        self.record = record
        exits = len(record.confidences)
        number = int(combinations ** (1 / exits) + 1e-9)
        if number < 2:
            raise ValueError(
                f'{exits} thresholds have more than {combinations:,} combinations of two'
            )
        self.candidates = [_candidates(c, number) for c in record.confidences]
        reached = [*map(_number_reached, self.candidates, record.confidences)]
        shape = [len(candidates) for candidates in self.candidates]
        right, macs = np.zeros(shape), np.zeros(shape)
        for exit, cost in enumerate(record.macs):
            axes = reached[: exit + 1]
            right += _leaving(axes, shape, exit, record.correct[exit])
            macs += cost * _leaving(axes, shape, exit, np.ones(images))
        self.accuracy = 100 * right / images
        self.macs = macs / images

    def within(self, max_macs: float) -> tuple[float, ...]:
        """The most accurate thresholds within a cost; of equal ones the cheapest.

        Args:
            max_macs (float): Highest mean MACs per image.

        Raises:
            ValueError: If the cheapest thresholds cost more.
        """
        if self.macs.min() > max_macs:
            raise ValueError(
                f'at most {max_macs:,.0f} MACs an image cannot be had: the cheapest '
                f'thresholds cost {math.ceil(self.macs.min()):,}'
            )
        most = max_macs * (1 + _ROUNDING)
        return self._best(lambda accuracy, macs: (macs <= most, accuracy, -macs))

    def reaching(self, min_accuracy: float) -> tuple[float, ...]:
        """The cheapest thresholds that reach an accuracy.

        Args:
            min_accuracy (float): In percent.

        Raises:
            ValueError: If the best thresholds are less accurate.
        """
        if self.accuracy.max() < min_accuracy:
            best, _ = self.at(self._best(lambda accuracy, macs: (accuracy, -macs)))
            if best < min_accuracy:
                raise ValueError(
                    f'{min_accuracy} % cannot be reached: the best thresholds have '
                    f'{best:.2f} %'
                )

        def order(accuracy, macs):
            # Below the accuracy, the refinement climbs towards it.
            reached = accuracy >= min_accuracy - _ROUNDING
            return reached, np.where(reached, -macs, accuracy), accuracy

        return self._best(order)

    def at(self, thresholds: Sequence[float]) -> tuple[float, float]:
        """Accuracy in percent and MACs per image at some thresholds."""
        exits = exits_by_confidence(self.record.confidences, thresholds)
        right = self.record.correct[exits, np.arange(len(exits))]
        return 100 * float(right.mean()), float(self.record.macs[exits].mean())

    def _best(self, order: Callable) -> tuple[float, ...]:
        """Thresholds that come last in an order of arrays of accuracy and MACs."""

        def last_of(vectors: list[list[float]]) -> list[float]:
            outcomes = np.array([self.at(thresholds) for thresholds in vectors])
            return vectors[_last(order(*outcomes.T))]

        flat = _last(order(self.accuracy.ravel(), self.macs.ravel()))
        place = np.unravel_index(flat, self.accuracy.shape)
        start = [float(c[i]) for c, i in zip(self.candidates, place)]
        shared = _candidates(self.record.confidences, self.fine)
        same = last_of([[float(threshold)] * len(start) for threshold in shared])
        return tuple(last_of([self._refined(each, order) for each in (start, same)]))

    def _refined(self, thresholds: Sequence[float], order: Callable) -> list[float]:
        best = list(thresholds)
        while True:
            before = list(best)
            for exit in range(len(best)):
                candidates, *outcomes = self._along(exit, best)
                outcomes = map(np.append, outcomes, self.at(best))
                place = _last(order(*outcomes))
                if place < len(candidates):
                    best[exit] = float(candidates[place])
            if best == before:
                return best

    def _along(self, exit: int, thresholds: Sequence[float]) -> tuple[np.ndarray, ...]:
        """Candidates of one exit, and accuracy and MACs with each, all else equal."""
        record = self.record
        others = np.array(thresholds, float)
        others[exit] = np.inf
        later = exits_by_confidence(record.confidences, others)  # without this exit
        images = np.arange(len(later))
        right, macs = record.correct[later, images].astype(float), record.macs[later]
        arrives = later > exit
        candidates = _candidates(record.confidences[exit], self.fine)
        reached = _number_reached(candidates, record.confidences[exit][arrives])
        gain = (record.correct[exit] - right)[arrives]
        saving = (record.macs[exit] - macs)[arrives]
        shape = [len(candidates)]
        return (
            candidates,
            100 * (right.sum() + _leaving([reached], shape, 0, gain)) / len(images),
            (macs.sum() + _leaving([reached], shape, 0, saving)) / len(images),
        )


def _number_reached(candidates: np.ndarray, confidences: np.ndarray) -> np.ndarray:
    """How many of the rising candidates each confidence ``reaches``."""
    return np.searchsorted(candidates, confidences, side='right')


def _last(keys: Sequence[np.ndarray]) -> int:
    """Index of the last outcome, by the first key, then by the second, …"""
    # Sums in another order must not make two outcomes differ.
    return int(
        np.lexsort([np.round(np.asarray(key, float), 6) for key in reversed(keys)])[-1]
    )


def _candidates(confidences: np.ndarray, number: int) -> np.ndarray:
    """Thresholds half-way between a quantile and the next lower confidence, and 1.

    So rounding, which differs between batches, does not decide which samples exit. In
    single precision, as confidences are.
    """
    values = np.unique(confidences.astype(np.float32))
    middle = (values[1:] + values[:-1]) / 2
    middle = np.where(middle > values[:-1], middle, values[1:])
    below = np.concatenate([values[:1] / 2, middle])
    quantiles = np.quantile(
        confidences, np.linspace(0, 1, max(number - 1, 1)), method='inverted_cdf'
    )
    places = np.searchsorted(values, quantiles.astype(np.float32))
    return np.unique(np.append(below[places], np.float32(1)))


def _leaving(
    reached: list[np.ndarray], shape: list[int], exit: int, weights: np.ndarray
) -> np.ndarray:
    """Sum of the weights of the images that take an exit, for all combinations.

    An image takes the first exit at which it reaches the chosen candidate. ``reached``
    are the numbers of candidates (N,) of the exits up to this one but the last.
    """
    sizes = [size + 1 for size in shape[: len(reached)]]
    places = np.ravel_multi_index(reached, sizes)
    sums = np.bincount(places, weights, minlength=int(np.prod(sizes))).reshape(sizes)
    for axis in range(len(sizes)):
        if axis == exit:  # candidate k is reached by images that reach more than k
            sums = np.flip(np.flip(sums, axis).cumsum(axis), axis)
            sums = np.take(sums, range(1, sizes[axis]), axis)
        else:  # and missed by those that reach k or less
            sums = np.take(sums.cumsum(axis), range(sizes[axis] - 1), axis)
    return sums.reshape(*sums.shape, *[1] * (len(shape) - sums.ndim))
