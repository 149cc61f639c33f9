"""Counts of the samples that take each exit, and of the right predictions there.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections
V-C.2 and V-F, Figs. 5, 9 and 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.evaluator import BaseMetric

GROUP_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""The paper's groups of 50 to 500 classes of 1,000 (Fig. 10)."""


@dataclass(frozen=True)
class ExitStatistics:
    """Samples of each class that took each exit, and the correct ones among them.

    Shares and accuracies lie in [0, 1]; they are NaN where there is no sample.

    Args:
        samples (np.ndarray): Integers (K, M) for K classes and M exits.
        correct (np.ndarray): Integers (K, M).
    """

    samples: np.ndarray
    correct: np.ndarray

    @classmethod
    def count(
        cls,
        exits: Sequence[int],
        correct: Sequence[bool],
        classes: Sequence[int],
        num_exits: int,
        num_classes: int,
    ) -> 'ExitStatistics':
        """Count N samples by their exits, from 1, and classes, from 0.

        Raises:
            ValueError: If the three differ in length, or an exit or a class does not
                exist.
        """
        exits, classes = np.asarray(exits, dtype=int), np.asarray(classes, dtype=int)
        correct = np.asarray(correct, dtype=bool)
        if not len(exits) == len(correct) == len(classes):
            raise ValueError(
                f'exits, correct and classes must be of one length, got {len(exits)}, '
                f'{len(correct)} and {len(classes)}'
            )
        _check_within('exits', exits, 1, num_exits)
        _check_within('classes', classes, 0, num_classes - 1)
        counts = np.zeros((2, num_classes, num_exits), dtype=int)
        np.add.at(counts[0], (classes, exits - 1), 1)
        np.add.at(counts[1], (classes, exits - 1), correct)
        return cls(*counts)

    @property
    def shares(self) -> np.ndarray:
        """Share of all samples that take each exit (M)."""
        return _ratio(self.samples.sum(0), self.samples.sum())

    @property
    def accuracies(self) -> np.ndarray:
        """Accuracy of each exit on the samples that take it (M)."""
        return _ratio(self.correct.sum(0), self.samples.sum(0))

    @property
    def accuracy(self) -> float:
        """Accuracy on all samples."""
        return float(_ratio(self.correct.sum(), self.samples.sum()))

    @property
    def class_shares(self) -> np.ndarray:
        """Share of the samples of each class that take each exit (K, M)."""
        return _ratio(self.samples, self.samples.sum(1, keepdims=True))

    @property
    def class_exit_accuracies(self) -> np.ndarray:
        """Accuracy on the samples of each class that take each exit (K, M)."""
        return _ratio(self.correct, self.samples)

    @property
    def class_accuracies(self) -> np.ndarray:
        """Accuracy on the samples of each class (K)."""
        return _ratio(self.correct.sum(1), self.samples.sum(1))


@dataclass(frozen=True)
class ClassGroup:
    """A number of classes of which the most, or the fewest, samples take exit 1.

    With the means over the classes, in [0, 1], of the share of their samples that take
    exit 1 and of their accuracy (Fig. 10, left).
    """

    most: bool
    classes: int
    first_exit_share: float
    accuracy: float


def class_groups(statistics: ExitStatistics) -> list[ClassGroup]:
    """Compare classes that exit early with those that exit late (Fig. 10, left).

    Classes are sorted by their share at exit 1, and groups of 5 to 50 % of them taken
    from either end, those of the lowest shares first, each from small to large. Classes
    without samples are in no group.
    """
    present = statistics.samples.sum(1) > 0
    shares = statistics.class_shares[present, 0]
    accuracies = statistics.class_accuracies[present]
    sizes = sorted({max(1, round(f * len(shares))) for f in GROUP_FRACTIONS})
    return [
        ClassGroup(most, size, float(shares[best].mean()), float(accuracies[best].mean()))
        for most, order in (
            (False, np.argsort(shares, kind='stable')),
            (True, np.argsort(-shares, kind='stable')),
        )
        for size in sizes
        if len(best := order[:size])
    ]


class ExitStatisticsMetric(BaseMetric):
    """Share of the samples at each exit and accuracy on them, both in percent.

    For predictions of one label with ``exit_index``, ``pred_label`` and ``gt_label``, as
    of ``mmdyn.MultiExitClassifier``. The accuracy is NaN where no sample exits.

    Attributes:
        statistics (ExitStatistics | None): Counts of the latest evaluation, over all
            ranks; on the main one only.
    """

    default_prefix = 'exits'

    def __init__(self, num_exits: int, num_classes: int):
        super().__init__()
        self.num_exits = num_exits
        self.num_classes = num_classes
        self.statistics: ExitStatistics | None = None

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        """Keep exit, correctness and class of each sample."""
        for sample in data_samples:
            label = int(sample['gt_label'])
            correct = int(sample['pred_label']) == label
            self.results.append((int(sample['exit_index']), correct, label))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Count the samples of all ranks."""
        exits, correct, labels = zip(*results)
        self.statistics = ExitStatistics.count(
            exits, correct, labels, self.num_exits, self.num_classes
        )
        metrics = {}
        columns = (self.statistics.shares, self.statistics.accuracies)
        for exit, (share, accuracy) in enumerate(zip(*columns), 1):
            metrics[f'share_{exit}'] = 100 * float(share)
            metrics[f'accuracy_{exit}'] = 100 * float(accuracy)
        return metrics


def _check_within(name: str, values: np.ndarray, lowest: int, highest: int) -> None:
    outside = sorted(set(values[(values < lowest) | (values > highest)].tolist()))
    if outside:
        raise ValueError(f'{name} must lie in {lowest}…{highest}, got {outside}')


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        return np.true_divide(part, whole)
