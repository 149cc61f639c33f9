"""Time on the clock at each operating point, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from mmdyn.operating_point import OperatingPoint, at_operating_point

__all__ = ['measure_latency']

_WARM_UP_ROUNDS = 1
_MIN_SAMPLES = 20


@torch.no_grad()
def measure_latency(
    model: nn.Module, points: Sequence[OperatingPoint], batches: Sequence[dict]
) -> list[dict[str, float]]:
    """Time ``model.test_step`` at each operating point.

    The points take turns on each batch, so that a slow spell of the machine meets all of
    them. Preprocessing and predictions are part of the time; loading data is not.

    Args:
        model (nn.Module): A model with MMEngine's ``test_step``, in evaluation mode.
        points (Sequence[OperatingPoint]): Points that the model offers.
        batches (Sequence[dict]): Batches as the dataloader gives them.

    Returns:
        list[dict[str, float]]: For each point, ``median`` and ``p90`` (90th percentile)
        over batches of the milliseconds an image takes.
    """
    rounds = -(-_MIN_SAMPLES // len(batches))
    samples = np.empty((rounds * len(batches), len(points)))
    row = 0
    for number in range(_WARM_UP_ROUNDS + rounds):
        # One batch is enough to warm up caches and kernels.
        for batch in batches if number >= _WARM_UP_ROUNDS else batches[:1]:
            times = [_time_batch(model, point, batch) for point in points]
            if number >= _WARM_UP_ROUNDS:
                samples[row] = times
                row += 1
    median, p90 = np.percentile(samples, [50, 90], axis=0)
    return [dict(median=float(m), p90=float(p)) for m, p in zip(median, p90)]


def _time_batch(model: nn.Module, point: OperatingPoint, batch: dict) -> float:
    """Milliseconds an image of the batch takes at the point."""
    with at_operating_point(model, point):
        _synchronize()
        start = time.perf_counter()
        outputs = model.test_step(batch)
        _synchronize()
        return (time.perf_counter() - start) * 1e3 / len(outputs)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
