"""Record of all exits of a classifier on all images, from one pass over a dataset."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmdyn.evaluation.cost import CostMeter
from mmdyn.methods.multi_exit.policies import confidence


@dataclass(frozen=True)
class ExitRecord:
    """Confidences (M − 1, N) of the exits but the last, and correctness (M, N) of all.

    ``macs`` (M,) of an image that takes each exit include all exits before it.
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


def run_all_exits(model, images: Tensor) -> tuple[list[Tensor], np.ndarray]:
    """Logits (N, K) of each exit for images (N, C, H, W), and the executed MACs (2, M).

    The MACs are those of the part of the backbone before each exit, and of the exit.
    """
    logits, macs = [], np.zeros((2, model.num_exits))
    walk = model.walk(images)
    for exit in range(model.num_exits):
        with CostMeter() as trunk:
            features = next(walk)
        with CostMeter() as branch:
            logits.append(model.logits_at(exit, features))
        macs[:, exit] = trunk.macs, branch.macs
    return logits, macs


@torch.no_grad()
def record_exits(model, batches: Iterable) -> ExitRecord:
    """Run every exit of a classifier, in evaluation mode, on all images of batches."""
    confidences, correct, macs = [], [], np.zeros(model.num_exits)
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        images = data['inputs']
        labels = torch.cat([s.gt_label for s in data['data_samples']]).to(images.device)
        if len(labels) != len(images):
            raise ValueError(
                f'thresholds are searched with one label per image, got {len(labels)} '
                f'labels of {len(images)} images'
            )
        logits, executed = run_all_exits(model, images)
        macs += executed.sum(axis=0)
        early = torch.stack([confidence(each) for each in logits[:-1]])
        confidences.append(early.float().cpu())
        correct.append((torch.stack(logits).argmax(dim=2) == labels).cpu())
    confidences, correct = (torch.cat(x, dim=1).numpy() for x in (confidences, correct))
    return ExitRecord(confidences, correct, macs.cumsum() / correct.shape[1])
