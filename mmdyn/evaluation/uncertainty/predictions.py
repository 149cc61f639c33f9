"""What a classifier says at an operating point, at all exits that an image may take."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from mmpretrain.models import ImageClassifier

from mmdyn.evaluation.uncertainty.metric import Predictions, log_of_scores
from mmdyn.operating_point import DynamicModule, OperatingPoint, at_operating_point


@torch.no_grad()
def predictions_at_points(
    model: ImageClassifier,
    points: Sequence[OperatingPoint],
    batches: Iterable,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict[OperatingPoint, Predictions]:
    """Run a classifier on images at operating points.

    Exits say the same at all points of a network with exits, so one run of all exits
    serves all points that are an exit or a rule who leaves where. Others run themselves.

    Args:
        model (ImageClassifier): The model, in evaluation mode.
        points (Sequence[OperatingPoint]): Some of its operating points.
        batches (Iterable): What its dataloader gives, with one label an image.
        track (Callable): What shows the progress of a run over the batches.

    Returns:
        dict[OperatingPoint, Predictions]: With one exit where images cannot choose.

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
            if 'exit' in point.settings:  # no image can choose
                found[point] = Predictions(logits[exits[:1]], labels, 0 * exits)
            else:
                found[point] = Predictions(logits, labels, exits)
    for point in points:
        if point not in found:
            with at_operating_point(model, point):
                logits, labels = _collect(model, track(batches), _predicted)
            none = np.zeros(len(labels), dtype=int)
            found[point] = Predictions(logits, labels, none)
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
