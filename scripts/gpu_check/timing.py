"""Median and spread of calls that are timed alternately."""

from collections.abc import Callable

import numpy as np

from gpu_check.subjects import time_alternately


def time_calls(calls: dict[str, Callable], seconds: float, repeat: int = 1) -> dict:
    """Time calls alternately, the device synchronised before and after each.

    Args:
        calls (dict[str, Callable]): What is timed, by name; the first is the reference.
        seconds (float): How long it may take, about; three rounds are the least.
        repeat (int): How often a call is made between two synchronisations.

    Returns:
        dict[str, dict[str, float]]: By name, milliseconds of a call (median ``ms``,
        ``p10``, ``p90``) and ``speed_up``, how much quicker it is than the reference.
    """
    runs = [lambda c=call: [c() for _ in range(repeat)] for call in calls.values()]
    one_round = time_alternately(runs, 1, warmup=2).sum() / 1e3
    rounds = int(np.clip(seconds / one_round, 3, 100))
    times = time_alternately(runs, rounds, warmup=0) / repeat
    columns = [*np.percentile(times, [50, 10, 90], axis=0)]
    columns.append(np.median(times[:, :1] / times, axis=0))
    rows = np.transpose(columns).tolist()
    names = ('ms', 'p10', 'p90', 'speed_up')
    return {name: dict(zip(names, row)) for name, row in zip(calls, rows)}
