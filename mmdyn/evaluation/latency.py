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
    """Time functions alternately, so that a slow period of the machine affects all.

    Args:
        calls (Sequence[Callable[[], Any]]): The functions, run without gradients.
        rounds (int): Number of times that each is timed.
        warmup (int): Number of calls of each before.
        track (Callable): Wraps the rounds, to show progress.

    Returns:
        np.ndarray: Milliseconds (rounds, number of calls).
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

    Preprocessing and predictions are part of the time; loading data is not.

    Args:
        model (nn.Module): A model with MMEngine's ``test_step``, in evaluation mode.
        points (Sequence[OperatingPoint]): Points that the model offers.
        batches (Sequence[dict]): Batches of the dataloader.
        track (Callable): Wraps the batches that will be run, to show progress.

    Returns:
        list[dict[str, float]]: For each point, ``median`` and ``p90`` (90th percentile)
        over batches of the milliseconds per image.
    """
    rounds = -(-_MIN_SAMPLES // len(batches))
    schedule = [batches[0], *batches * rounds]  # the first run only warms up
    samples = [
        [_time_batch(model, point, batch) for point in points]
        for batch in track(schedule)
    ]
    median, p90 = np.percentile(samples[1:], [50, 90], axis=0)
    return [dict(median=float(m), p90=float(p)) for m, p in zip(median, p90)]


def describe_device() -> str:
    """Name of the GPU, or kind of processor and number of threads."""
    if get_device() == 'cuda':
        return torch.cuda.get_device_name()
    return f'{get_device()} ({platform.machine()}, {torch.get_num_threads()} threads)'


def _time_batch(model: nn.Module, point: OperatingPoint, batch: dict) -> float:
    """Milliseconds per image of the batch at the point."""
    with at_operating_point(model, point):
        milliseconds, outputs = _timed(lambda: model.test_step(batch))
        return milliseconds / len(outputs)


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
