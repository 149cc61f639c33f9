"""Predictions of a classifier at operating points, with those of all exits."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from mmdyn.evaluation.uncertainty.temperature import log_of_scores
from mmdyn.operating_point import DynamicModule, OperatingPoint, at_operating_point


class Predictions(NamedTuple):
    """Predictions for N images at an operating point with M exits.

    Where all images take the same path (one exit, a budget), M is 1.

    Args:
        log_probabilities (np.ndarray): Of K classes at each exit for each image,
            (M, N, K).
        labels (np.ndarray): Classes of the images (N,), from 0.
        exits (np.ndarray): Exit at which each image leaves (N,), from 0.
    """

    log_probabilities: np.ndarray
    labels: np.ndarray
    exits: np.ndarray


@torch.no_grad()
def predictions_at_points(
    model,
    points: Sequence[OperatingPoint],
    batches: Iterable,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict[OperatingPoint, Predictions]:
    """Run a classifier on images at operating points.

    One run of all exits serves all points that only choose an exit for each image, as
    the logits of an exit are the same at each of them. Other points run by themselves.

    Args:
        model (ImageClassifier): A classifier of mmpretrain, in evaluation mode.
        points (Sequence[OperatingPoint]): Some of its operating points.
        batches (Iterable): Batches of its dataloader, with one label per image.
        track (Callable): Wraps the batches, to show progress.

    Returns:
        dict[OperatingPoint, Predictions]: The predictions, point by point.

    Raises:
        ValueError: If there are no images, or not one label for each.
    """
    dynamic = isinstance(model, DynamicModule)
    together = [point for point in points if dynamic and model.chooses_exits(point)]
    found = {}
    if together:
        logits, labels = _collect(model, track(batches), _logits_of_exits)
        for point in together:
            exits = model.exits_at(point, torch.from_numpy(logits)).numpy()
            if 'exit' in point.settings:  # the same for all images
                found[point] = Predictions(logits[exits[:1]], labels, 0 * exits)
            else:
                found[point] = Predictions(logits, labels, exits)
    for point in points:
        if point not in found:
            with at_operating_point(model, point):
                logits, labels = _collect(model, track(batches), _predicted)
            found[point] = Predictions(logits, labels, np.zeros(len(labels), dtype=int))
    return {point: found[point] for point in points}


def _collect(model, batches: Iterable, run: Callable) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (M, N, K) and labels (N,)."""
    logarithms, labels = [], []
    for batch in batches:
        data = model.data_preprocessor(batch, False)
        samples = data['data_samples']
        labels += [sample.gt_label.cpu() for sample in samples]
        logarithms.append(run(model, data['inputs'], samples))
    if not labels:
        raise ValueError('there are no images to calibrate on')
    if any(label.numel() != 1 for label in labels):
        raise ValueError('uncertainty is that of one label an image, got several')
    return np.concatenate(logarithms, axis=1), torch.cat(labels).numpy()


def _logits_of_exits(model, inputs, samples) -> np.ndarray:
    logits = torch.stack(model.logits_of_exits(inputs))
    return logits.float().log_softmax(dim=2).cpu().numpy()


def _predicted(model, inputs, samples) -> np.ndarray:
    scores = torch.stack([each.pred_score for each in model.predict(inputs, samples)])
    return log_of_scores(scores.float().cpu().numpy())[None]
