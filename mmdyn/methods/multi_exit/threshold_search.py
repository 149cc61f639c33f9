"""Thresholds of confidence for a budget, searched on what all exits say once.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections
III-C and V-C; cost is their Eq. 5.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmdyn.evaluation.cost import CostMeter
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier
from mmdyn.models.stages import Walk

# Sums in another order must not decide whether a budget is kept.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ExitRecord:
    """What every exit of a network says about every image.

    Args:
        confidences (np.ndarray): Highest class probability at each exit but the last, of
            shape (M − 1, N).
        correct (np.ndarray): Whether each exit's answer is right, of shape (M, N).
        macs (np.ndarray): MACs of an image that leaves at each exit, (M,): the backbone
            up to there, that exit and all before it.
    """

    confidences: np.ndarray
    correct: np.ndarray
    macs: np.ndarray

    def __post_init__(self):
        exits, images = self.correct.shape
        if self.confidences.shape != (exits - 1, images) or self.macs.shape != (exits,):
            raise ValueError(
                f'confidences {self.confidences.shape}, correct {self.correct.shape} and '
                f'macs {self.macs.shape} are not of one record'
            )


@torch.no_grad()
def record_exits(model: MultiExitClassifier, batches: Iterable) -> ExitRecord:
    """Run every exit once on every image.

    Args:
        model (MultiExitClassifier): The model, in evaluation mode.
        batches (Iterable): What its dataloader gives, with one label an image.

    Returns:
        ExitRecord: The record, with MACs as executed.
    """
    confidences, correct = [], []
    meters = [CostMeter() for _ in range(model.num_exits)]
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        x = data['inputs']
        labels = torch.cat([s.gt_label for s in data['data_samples']]).to(x.device)
        if len(labels) != len(x):
            raise ValueError(
                f'thresholds are searched with one label an image, got {len(labels)} '
                f'labels of {len(x)} images'
            )
        scores = []
        walk = Walk(model.parts(range(model.num_exits), lazy=True), x)
        for exit in range(model.num_exits):
            with meters[exit]:
                features = next(walk)
                scores.append(model.logits_at(exit, features).softmax(dim=1))
            meters[exit].images += len(labels)
        best = torch.stack([each.max(dim=1).values for each in scores[:-1]])
        answers = torch.stack([each.argmax(dim=1) for each in scores])
        confidences.append(best.float().cpu())
        correct.append((answers == labels).cpu())
    return ExitRecord(
        torch.cat(confidences, dim=1).numpy(),
        torch.cat(correct, dim=1).numpy(),
        np.cumsum([meter.macs_per_image for meter in meters]),
    )


class ThresholdSearch:
    """Thresholds of a budget, from a grid of combinations and refined one by one.

    Accuracy and cost of all combinations of the grid follow from sums over counts of
    images, without a loop over images or combinations. The more exits, the coarser is
    the grid, so from its best combination, and from the best single threshold for all
    exits, one exit after the other takes the best of its candidates, until none helps.

    Args:
        record (ExitRecord): What the exits say.
        combinations (int): Size of the grid, at most, if two thresholds an exit are not
            more.

    Attributes:
        candidates (list[np.ndarray]): Thresholds of each exit in the grid, rising, at
            quantiles of its confidences, and 1.
        accuracy (np.ndarray): Share of right answers, in percent; a dimension an exit.
        macs (np.ndarray): Mean MACs an image, of the same shape (Eq. 5).

    Raises:
        ValueError: If the record has no images, or so many exits that there is no grid.
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
        # How many candidates of each exit an image reaches: those are the thresholds at
        # which it would leave there.
        reached = [
            np.searchsorted(candidates, confidences, side='right')
            for candidates, confidences in zip(self.candidates, record.confidences)
        ]
        shape = [len(candidates) for candidates in self.candidates]
        right, macs = np.zeros(shape), np.zeros(shape)
        for exit, cost in enumerate(record.macs):
            axes = reached[: exit + 1]
            right += _leaving(axes, shape, exit, record.correct[exit])
            macs += cost * _leaving(axes, shape, exit, np.ones(images))
        self.accuracy = 100 * right / images
        self.macs = macs / images

    def within(self, max_macs: float) -> tuple[float, ...]:
        """The thresholds of the best accuracy within a cost; of several the cheapest.

        Args:
            max_macs (float): Most MACs an image may cost in the mean.

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
            # What is not accurate enough is on its way there.
            reached = accuracy >= min_accuracy - _ROUNDING
            return reached, np.where(reached, -macs, accuracy), accuracy

        return self._best(order)

    def at(self, thresholds: Sequence[float]) -> tuple[float, float]:
        """Accuracy in percent and MACs an image at some thresholds."""
        exits = self._exits(thresholds)
        right = self.record.correct[exits, np.arange(len(exits))]
        return 100 * float(right.mean()), float(self.record.macs[exits].mean())

    def _exits(self, thresholds: Sequence[float]) -> np.ndarray:
        """Where each image leaves, from 0."""
        stays = self.record.confidences < np.asarray(thresholds)[:, None]
        return stays.cumprod(axis=0).sum(axis=0)

    def _best(self, order: Callable) -> tuple[float, ...]:
        """Thresholds that come last in an order of arrays of accuracy and MACs."""
        flat = _last(order(self.accuracy.ravel(), self.macs.ravel()))
        place = np.unravel_index(flat, self.accuracy.shape)
        start = [float(c[i]) for c, i in zip(self.candidates, place)]
        some = _candidates(self.record.confidences, self.fine)
        shared = [[float(threshold)] * len(start) for threshold in some]
        outcomes = np.array([self.at(thresholds) for thresholds in shared])
        same = shared[_last(order(*outcomes.T))]
        refined = [self._refined(thresholds, order) for thresholds in (start, same)]
        outcomes = np.array([self.at(thresholds) for thresholds in refined])
        return tuple(refined[_last(order(*outcomes.T))])

    def _refined(self, thresholds: Sequence[float], order: Callable) -> list[float]:
        best = list(thresholds)
        while True:
            before = list(best)
            for exit in range(len(best)):
                candidates, *outcomes = self._along(exit, best)
                accuracy, macs = self.at(best)
                place = _last(order(*map(np.append, outcomes, (accuracy, macs))))
                if place < len(candidates):
                    best[exit] = float(candidates[place])
            if best == before:
                return best

    def _along(self, exit: int, thresholds: Sequence[float]) -> tuple[np.ndarray, ...]:
        """Candidates of one exit, and accuracy and MACs with them, the rest as it is."""
        record = self.record
        others = np.array(thresholds, float)
        others[exit] = np.inf
        later = self._exits(others)  # where images leave that do not leave at this exit
        images = np.arange(len(later))
        gets_here = later > exit
        right = record.correct[later, images].astype(float)
        macs = record.macs[later]
        confidences = record.confidences[exit][gets_here]
        order = np.argsort(-confidences)
        gain = (record.correct[exit] - right)[gets_here][order]
        saving = (record.macs[exit] - macs)[gets_here][order]
        candidates = _candidates(record.confidences[exit], self.fine)
        leaving = np.searchsorted(-confidences[order], -candidates, side='right')
        gain, saving = (np.append(0, each.cumsum()) for each in (gain, saving))
        return (
            candidates,
            100 * (right.sum() + gain[leaving]) / len(images),
            (macs.sum() + saving[leaving]) / len(images),
        )


def _last(keys: Sequence[np.ndarray]) -> int:
    """Place of what comes last, by the first key, then by the second, …"""
    # Sums in another order must not make two outcomes differ.
    return int(
        np.lexsort([np.round(np.asarray(key, float), 6) for key in reversed(keys)])[-1]
    )


def _candidates(confidences: np.ndarray, number: int) -> np.ndarray:
    """Thresholds just below quantiles, half-way to what is less confident, and 1.

    So rounding, which differs between batches, does not decide who leaves. In single
    precision, as confidences are.
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
    """Sum of the weights of the images that leave at an exit, for all combinations.

    An image leaves at the first exit of which it reaches the chosen candidate.
    ``reached`` are those of the exits up to this one; the last exit is not among them.
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
