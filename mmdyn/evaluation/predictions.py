"""What a classifier says at an operating point, at all exits that an image may take."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from mmpretrain.models import ImageClassifier

from mmdyn.models.multi_exit import MultiExitClassifier
from mmdyn.operating_point import OperatingPoint, at_operating_point

from .uncertainty import Predictions, log_of_scores

__all__ = ['predictions_at']


@torch.no_grad()
def predictions_at(
    model: ImageClassifier, point: OperatingPoint | str, batches: Iterable
) -> Predictions:
    """Run a classifier on images.

    Where images choose their exit, every exit says something about every image.

    Args:
        model (ImageClassifier): The model, in evaluation mode.
        point (OperatingPoint | str): One of its operating points.
        batches (Iterable): What its dataloader gives, with one label an image.

    Returns:
        Predictions: With one exit where images cannot choose.

    Raises:
        ValueError: If there are no images, or not one label for each.
    """
    logarithms, labels, exits = [], [], []
    with at_operating_point(model, point):
        for batch in batches:
            data = model.data_preprocessor(batch, False)
            samples = data['data_samples']
            labels += [sample.gt_label.cpu() for sample in samples]
            said, leaving = _predict(model, data['inputs'], samples)
            logarithms.append(said)
            exits.append(leaving)
    if not labels:
        raise ValueError('there are no images to calibrate on')
    if any(label.numel() != 1 for label in labels):
        raise ValueError('uncertainty is that of one label an image, got several')
    return Predictions(
        np.concatenate(logarithms, axis=1),
        torch.cat(labels).numpy(),
        np.concatenate(exits),
    )


def _predict(model, inputs, samples) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities (M, N, K), and where images leave (N,)."""
    has_exits = isinstance(model, MultiExitClassifier)
    if has_exits and 'exit' not in model.operating_point.settings:
        logits = torch.stack(model.logits_of_exits(inputs))
        leaving = model.infer(inputs)[1] - 1
        return logits.float().log_softmax(dim=2).cpu().numpy(), leaving.cpu().numpy()
    scores = torch.stack([each.pred_score for each in model.predict(inputs, samples)])
    nothing_to_choose = np.zeros(len(scores), dtype=int)
    return log_of_scores(scores.float().cpu().numpy())[None], nothing_to_choose
