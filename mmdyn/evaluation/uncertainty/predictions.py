"""Predictions of a classifier at operating points, with those of all exits."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdyn.evaluation.uncertainty.temperature import log_of_scores
from mmdyn.operating_point import DynamicModule, OperatingPoint, at_operating_point


class Predictions(NamedTuple):
    """Predictions for N images at a point with M exits; 1 if all take the same path."""

    log_probabilities: np.ndarray  # M, N, K
    labels: np.ndarray  # N, from 0
    exits: np.ndarray  # N, from 0: where each image leaves


@torch.no_grad()
def predictions_at_points(
    model,
    points: Sequence[OperatingPoint],
    batches: Iterable,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict[OperatingPoint, Predictions]:
    """Run a classifier of mmpretrain, in evaluation mode, at operating points.

    One run of all exits serves all points that only choose an exit for each image; other
    points run by themselves. ``track`` wraps the batches, which have one label per image.
    """
    found, of_exits = {}, None
    for point in points:
        if isinstance(model, DynamicModule) and model.chooses_exits(point):
            of_exits = of_exits or _collect(model, track(batches), _logits_of_exits)
            logits, labels = of_exits
            exits = model.exits_at(point, torch.from_numpy(logits)).numpy()
            if 'exit' in point.settings:  # the same for all images
                logits, exits = logits[exits[:1]], 0 * exits
        else:
            with at_operating_point(model, point):
                logits, labels = _collect(model, track(batches), _predicted)
            exits = np.zeros(len(labels), dtype=int)
        found[point] = Predictions(logits, labels, exits)
    return found


def _collect(model, batches: Iterable, run: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (M, N, K) and labels (N,)."""
    logarithms, labels = [], []
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        labels += [sample.gt_label for sample in data['data_samples']]
        logarithms.append(run(model, data['inputs'], data['data_samples']))
    if not labels:
        raise ValueError('there are no images to calibrate on')
    return np.concatenate(logarithms, axis=1), single_labels(labels)


def single_labels(labels: Sequence[Tensor]) -> np.ndarray:
    """The labels (N,) of images, if each has one."""
    several = [label.numel() for label in labels if label.numel() != 1]
    if several:
        raise ValueError(f'there must be one label an image, got {several[0]} labels')
    return torch.cat([label.reshape(1) for label in labels]).cpu().numpy()


def _logits_of_exits(model, inputs, samples) -> np.ndarray:
    logits = torch.stack(model.logits_of_exits(inputs))
    return logits.float().log_softmax(dim=2).cpu().numpy()


def _predicted(model, inputs, samples) -> np.ndarray:
    scores = torch.stack([each.pred_score for each in model.predict(inputs, samples)])
    return log_of_scores(scores.float().cpu().numpy())[None]
