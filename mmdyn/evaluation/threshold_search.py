"""Thresholds of confidence for a budget, searched on what all exits say once.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections
III-C and V-C; cost is their Eq. 5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmdyn.models.multi_exit import MultiExitClassifier
from mmdyn.models.multi_exit.base import run

from .cost import CostMeter

__all__ = ['ExitRecord', 'ThresholdSearch', 'record_exits']


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
        for exit, part in enumerate(model.parts(range(model.num_exits))):
            with meters[exit]:
                x, features = run(part, x)
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
    """Accuracy and cost of every combination of candidate thresholds.

    The candidates of an exit are at quantiles of its confidences, and 1. Images are
    counted once by which candidates of each exit they reach; accuracy and cost of all
    combinations follow from sums over these counts, without a loop over images or
    combinations.

    Args:
        record (ExitRecord): What the exits say.
        combinations (int): How many combinations to try, at most.

    Attributes:
        candidates (list[np.ndarray]): Thresholds of each exit but the last, rising.
        accuracy (np.ndarray): Share of right answers, in percent; a dimension an exit.
        macs (np.ndarray): Mean MACs an image, of the same shape (Eq. 5).

    Raises:
        ValueError: If the record has no images.
    """

    def __init__(self, record: ExitRecord, combinations: int = 10**6):
        images = record.correct.shape[1]
        if not images:
            raise ValueError('there are no images to search thresholds on')
        number = max(2, int(combinations ** (1 / len(record.confidences)) + 1e-9))
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
        allowed = self.macs <= max_macs
        if not allowed.any():
            raise ValueError(
                f'at most {max_macs:,.0f} MACs an image cannot be had: the cheapest '
                f'thresholds cost {self.macs.min():,.0f}'
            )
        best = self.accuracy[allowed].max()
        return self._cheapest(allowed & (self.accuracy == best))

    def reaching(self, min_accuracy: float) -> tuple[float, ...]:
        """The cheapest thresholds that reach an accuracy.

        Args:
            min_accuracy (float): In percent.

        Raises:
            ValueError: If the best thresholds are less accurate.
        """
        allowed = self.accuracy >= min_accuracy
        if not allowed.any():
            raise ValueError(
                f'{min_accuracy} % cannot be reached: the best thresholds have '
                f'{self.accuracy.max():.2f} %'
            )
        return self._cheapest(allowed)

    def at(self, thresholds: Sequence[float]) -> tuple[float, float]:
        """Accuracy in percent and MACs an image of a combination of candidates."""
        place = tuple(
            int(np.searchsorted(candidates, threshold))
            for candidates, threshold in zip(self.candidates, thresholds)
        )
        return float(self.accuracy[place]), float(self.macs[place])

    def _cheapest(self, allowed: np.ndarray) -> tuple[float, ...]:
        flat = np.where(allowed, self.macs, np.inf).argmin()
        place = np.unravel_index(flat, allowed.shape)
        return tuple(float(c[i]) for c, i in zip(self.candidates, place))


def _candidates(confidences: np.ndarray, number: int) -> np.ndarray:
    """Thresholds just below quantiles, half-way to what is less confident.

    So rounding, which differs between batches, does not decide who leaves.
    """
    values = np.unique(confidences.astype(float))
    below = np.concatenate([values[:1] / 2, (values[1:] + values[:-1]) / 2])
    quantiles = np.quantile(
        confidences.astype(float), np.linspace(0, 1, number - 1), method='inverted_cdf'
    )
    return np.unique(np.append(below[np.searchsorted(values, quantiles)], 1.0))


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
