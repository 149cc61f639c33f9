"""Latency, measured alternately for everything that is to be compared."""

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from torch import nn

from mmdyn.operating_point import OperatingPoint, at_operating_point

_MIN_SAMPLES = 30


@torch.no_grad()
def time_alternately(
    calls: Sequence[Callable[[], Any]],
    rounds: int,
    warmup: int = 3,
    track: Callable[[Sequence], Iterable] = iter,
) -> np.ndarray:
    """Milliseconds (rounds, calls) of functions that run alternately, without gradients.

    So a slow period of the machine affects all. ``track`` wraps the rounds.
    """
    samples = [[_timed(call)[0] for call in calls] for _ in track(range(warmup + rounds))]
    return np.array(samples[warmup:])


@torch.no_grad()
def measure_latency(
    model: nn.Module,
    points: Sequence[OperatingPoint],
    batches: Sequence[dict],
    track: Callable[[Sequence], Iterable] = iter,
) -> list[dict[str, float]]:
    """Time ``model.test_step`` at each operating point, alternately on each batch.

    Preprocessing and predictions are part of the time; loading data is not. ``track``
    wraps the batches that will be run. Returns, for each point, ``median`` and ``p90``
    (90th percentile) over batches of the milliseconds per image.
    """

    def per_image(point: OperatingPoint, batch: dict) -> float:
        with at_operating_point(model, point):
            milliseconds, outputs = _timed(lambda: model.test_step(batch))
            return milliseconds / len(outputs)

    rounds = -(-_MIN_SAMPLES // len(batches))
    schedule = [batches[0], *batches * rounds]  # the first run only warms up
    samples = [[per_image(p, batch) for p in points] for batch in track(schedule)]
    percentiles = np.percentile(samples[1:], [50, 90], axis=0)
    return [dict(median=median, p90=p90) for median, p90 in percentiles.T.tolist()]


def describe_device() -> str:
    """Name of the GPU, or kind of processor and number of threads."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    return f'{get_device()} ({platform.machine()}, {torch.get_num_threads()} threads)'


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds that a call took, and its result."""
    _synchronize()
    start = time.perf_counter()
    result = call()
    _synchronize()
    return (time.perf_counter() - start) * 1e3, result


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
