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

    The grid has ``combinations`` at most: the more exits, the fewer ``candidates`` of
    each. Its ``accuracy`` in percent and mean ``macs`` per image (Eq. 5) have a dimension
    for each exit but the last. The refinement starts from its best combination, and from
    the best single threshold for all exits; one exit after the other takes its best
    candidate, until nothing improves.
    """

    fine = 200
    """Candidates of one exit in the refinement."""

    def __init__(self, record: ExitRecord, combinations: int = 10**6):
        if not record.correct.size:
            raise ValueError('there are no images to search thresholds on')
        confidences = self.confidences = record.confidences
        exits = len(confidences)
        number = int(combinations ** (1 / exits) + 1e-9)
        if number < 2:
            raise ValueError(
                f'{exits} thresholds have more than {combinations:,} combinations of two'
            )
        # Of each exit on each image, (M, N): percent of right predictions, and MACs.
        macs = np.broadcast_to(record.macs[:, None], record.correct.shape)
        self._values = 100 * record.correct, macs
        self.candidates = [_candidates(each, number) for each in confidences]
        self._fine = [_candidates(each, self.fine) for each in confidences]
        self.accuracy, self.macs = (
            _means(values, self.candidates, confidences) for values in self._values
        )

    def within(self, max_macs: float) -> tuple[float, ...]:
        """The most accurate thresholds within mean MACs per image; else a ValueError."""
        if self.macs.min() > max_macs:
            raise ValueError(
                f'at most {max_macs:,.0f} MACs per image cannot be had: the cheapest '
                f'thresholds cost {math.ceil(self.macs.min()):,}'
            )
        most = max_macs * (1 + _ROUNDING)
        return self._best(lambda accuracy, macs: (macs <= most, accuracy, -macs))

    def reaching(self, min_accuracy: float) -> tuple[float, ...]:
        """The cheapest thresholds of an accuracy in percent; else a ValueError."""
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
        exits = exits_by_confidence(self.confidences, thresholds)
        accuracy, macs = (_taken(values, exits).mean() for values in self._values)
        return float(accuracy), float(macs)

    def _best(self, order: Callable) -> tuple[float, ...]:
        """Thresholds that come last in an order of arrays of accuracy and MACs."""

        def last_of(vectors: list[list[float]]) -> list[float]:
            outcomes = np.array([self.at(thresholds) for thresholds in vectors])
            return vectors[_last(order(*outcomes.T))]

        flat = _last(order(self.accuracy, self.macs))
        place = np.unravel_index(flat, self.accuracy.shape)
        start = [float(c[i]) for c, i in zip(self.candidates, place)]
        shared = _candidates(self.confidences, self.fine)
        same = last_of([[float(threshold)] * len(start) for threshold in shared])
        return tuple(last_of([self._refined(each, order) for each in (start, same)]))

    def _refined(self, thresholds: list[float], order: Callable) -> list[float]:
        best = list(thresholds)
        while True:
            before = list(best)
            for exit, candidates in enumerate(self._fine):
                outcomes = map(np.append, self._along(exit, best), self.at(best))
                place = _last(order(*outcomes))
                if place < len(candidates):
                    best[exit] = float(candidates[place])
            if best == before:
                return best

    def _along(self, exit: int, thresholds: Sequence[float]) -> list[np.ndarray]:
        """Accuracy and MACs at the fine candidates of one exit, all else equal."""
        others = np.array(thresholds, float)
        others[exit] = np.inf
        later = exits_by_confidence(self.confidences, others)
        # Images that arrive take this exit or, if they miss its threshold, a later one.
        choice = np.stack([np.minimum(later, exit), later])
        grid = self._fine[exit : exit + 1], self.confidences[exit : exit + 1]
        return [_means(_taken(values, choice), *grid) for values in self._values]


def _taken(values: np.ndarray, exits: np.ndarray) -> np.ndarray:
    """Of values (M, N), those at the exits (…, N) that images take."""
    return values[exits, np.arange(exits.shape[-1])]


def _last(keys: Sequence[np.ndarray]) -> int:
    """Flat index of the last outcome, by the first key, then by the second, …"""
    # Sums in another order must not make two outcomes differ.
    keys = [np.round(np.ravel(key).astype(float), 6) for key in keys]
    return int(np.lexsort(keys[::-1])[-1])


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


def _means(
    values: np.ndarray, candidates: Sequence[np.ndarray], confidences: np.ndarray
) -> np.ndarray:
    """Mean over images of values (M, N) at the exits taken, for all combinations.

    An image changes from one exit to the next if it misses the thresholds of this exit
    and of all before it. Cumulative sums over counts of candidates give the totals of
    these changes, without a loop over images or combinations.
    """
    sizes = [len(each) + 1 for each in candidates]
    # Numbers of candidates that each confidence reaches, as the exit rule says.
    reached = [
        np.searchsorted(rising, each, side='right')
        for rising, each in zip(candidates, confidences)
    ]
    total = values[0].sum()
    for number in range(1, len(values)):
        places = np.ravel_multi_index(reached[:number], sizes[:number])
        change = values[number] - values[number - 1]
        sums = np.bincount(places, change, math.prod(sizes[:number]))
        sums = sums.reshape(sizes[:number])
        for axis in range(number):  # candidate k is missed by images that reach k or less
            sums = np.delete(sums.cumsum(axis), -1, axis)
        total = total + sums.reshape(*sums.shape, *[1] * (len(sizes) - number))
    return total / values.shape[1]
