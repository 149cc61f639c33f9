"""Counts of the samples that take each exit, and of the right predictions there.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al., sections
V-C.2 and V-F, Figs. 5, 9 and 10.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.engine.runner import load_whole_checkpoint
from mmdyn.operating_point import at_operating_point

GROUP_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""The paper's groups of 50 to 500 classes of 1,000 (Fig. 10)."""


@dataclass(frozen=True)
class ExitStatistics:
    """Samples (K, M) of K classes that took each of M exits, and the correct ones.

    Shares and accuracies lie in [0, 1]; they are NaN where there is no sample.
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
        """Count N samples by their exits, from 1, and classes, from 0."""
        if not len(exits) == len(correct) == len(classes):
            raise ValueError(
                f'exits, correct and classes must be of one length, got {len(exits)}, '
                f'{len(correct)} and {len(classes)}'
            )
        exits, classes = np.asarray(exits, dtype=int), np.asarray(classes, dtype=int)
        for name, values, lowest, highest in (
            ('exits', exits, 1, num_exits),
            ('classes', classes, 0, num_classes - 1),
        ):
            outside = {*values[(values < lowest) | (values > highest)].tolist()}
            if outside:
                raise ValueError(
                    f'{name} must lie in {lowest}…{highest}, got {sorted(outside)}'
                )
        counts = np.zeros((2, num_classes, num_exits), dtype=int)
        np.add.at(counts[0], (classes, exits - 1), 1)
        np.add.at(counts[1], (classes, exits - 1), np.asarray(correct, dtype=bool))
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


class ClassGroup(NamedTuple):
    """Means over classes of which the most, or the fewest, samples take exit 1."""

    most: bool
    classes: int
    first_exit_share: float
    accuracy: float


def class_groups(statistics: ExitStatistics) -> list[ClassGroup]:
    """Compare classes that exit early with those that exit late (Fig. 10, left).

    Groups of 5 to 50 % of the classes that have samples: those of the lowest shares at
    exit 1, from small groups to large, then those of the highest.
    """
    present = statistics.samples.sum(1) > 0
    shares = statistics.class_shares[present, 0]
    accuracies = statistics.class_accuracies[present]
    sizes = sorted({max(1, round(f * len(shares))) for f in GROUP_FRACTIONS})
    return [
        ClassGroup(most, size, float(shares[best].mean()), float(accuracies[best].mean()))
        for most, keys in ((False, shares), (True, -shares))
        for size in sizes
        if len(best := keys.argsort(kind='stable')[:size])
    ]


class ExitStatisticsMetric(BaseMetric):
    """Share of the samples at each exit and accuracy on them, both in percent.

    For predictions of one label with ``exit_index``, as of ``mmdyn.MultiExitClassifier``.
    ``statistics`` are those of the latest evaluation, on the main rank.
    """

    default_prefix = 'exits'

    def __init__(self, num_exits: int, num_classes: int):
        super().__init__()
        self.sizes = num_exits, num_classes
        self.statistics: ExitStatistics | None = None

    def process(self, data_batch, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label = int(sample['gt_label'])
            correct = int(sample['pred_label']) == label
            self.results.append((int(sample['exit_index']), correct, label))

    def compute_metrics(self, results: list) -> dict[str, float]:
        found = self.statistics = ExitStatistics.count(*zip(*results), *self.sizes)
        metrics = {}
        for exit, (share, accuracy) in enumerate(zip(found.shares, found.accuracies), 1):
            metrics[f'share_{exit}'] = 100 * float(share)
            metrics[f'accuracy_{exit}'] = 100 * float(accuracy)
        return metrics


def measure_exits(runner: Runner, names: Sequence[str]) -> dict[str, ExitStatistics]:
    """Run the test data at each point; the statistics by point, on the main rank."""
    model = unwrapped(runner.model)
    metric = ExitStatisticsMetric(model.num_exits, model.num_classes)
    runner.test_evaluator.metrics.append(metric)
    load_whole_checkpoint(runner)
    results = {}
    for name in names:
        runner.logger.info(f'Operating point {name}')
        with at_operating_point(model, name):
            runner.test_loop.run()
        results[name] = metric.statistics
    runner.call_hook('after_run')
    return results


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid='ignore'):
        return np.true_divide(part, whole)
