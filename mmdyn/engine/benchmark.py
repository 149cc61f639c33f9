"""Timing the models of configs against each other, on one batch of random images."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmdyn.engine.build import (
    build_model,
    forward_arguments,
    image_channels,
    random_images,
    read_config,
)
from mmdyn.evaluation.cost import count_macs

DTYPES = dict(fp32=torch.float32, bf16=torch.bfloat16, fp16=torch.float16)


@dataclass(frozen=True)
class Conditions:
    """Conditions under which models are timed.

    Args:
        batch_size (int): Images in the batch.
        shape (tuple[int, int]): Their height and width in pixels.
        dtype (str): One of :data:`DTYPES`.
        device (str): Where to run, as torch names it.
        channels_last (bool): Memory format of models and images; the quicker one on CPUs.
        compile (bool): Whether to use ``torch.compile``.
    """

    batch_size: int
    shape: tuple[int, int]
    dtype: str = 'fp32'
    device: str = 'cpu'
    channels_last: bool = False
    compile: bool = False


class Contender:
    """A config's model, ready to run on one batch.

    Args:
        path (str): The config file, as for ``read_config``.
        conditions (Conditions): The conditions.
        prepare (Callable[[nn.Module], None] | None): What to do with the built model.

    Attributes:
        name (str): Name of the config.
        parameters (int): Number of the model's parameters.
        macs (int): MACs per image.
        run (Callable): Runs the model on the batch.
    """

    def __init__(
        self,
        path: str,
        conditions: Conditions,
        prepare: Callable[[nn.Module], None] | None = None,
    ):
        cfg = read_config(path)
        self.name = Path(path.split('::')[-1]).stem
        model = build_model(cfg)
        if prepare is not None:
            prepare(model)
        shape = conditions.shape
        one_image = (image_channels(model), *shape)
        self.macs = count_macs(model, one_image, **forward_arguments(cfg, *shape))
        self.parameters = sum(p.numel() for p in model.parameters())
        layout = torch.contiguous_format
        if conditions.channels_last:
            layout = torch.channels_last
        model.to(conditions.device, DTYPES[conditions.dtype], memory_format=layout)
        images = random_images(model, conditions.batch_size, *shape)
        self.run = partial(
            torch.compile(model) if conditions.compile else model,
            images.contiguous(memory_format=layout),
            **forward_arguments(cfg, *shape, conditions.batch_size),
        )


def summary(baseline: Contender, model: Contender, times: np.ndarray) -> dict:
    """Costs and times of two models.

    Args:
        baseline (Contender): The model to compare with.
        model (Contender): The model.
        times (np.ndarray): Milliseconds per batch of baseline and model, (rounds, 2).

    Returns:
        dict: Numbers of each, how much quicker the model is round by round, and how much
        quicker it would be if time were MACs.
    """
    rows = {
        role: dict(
            name=contender.name,
            parameters=contender.parameters,
            macs_per_image=contender.macs,
            latency_ms=_spread(column),
        )
        for role, contender, column in zip(
            ('baseline', 'model'), (baseline, model), times.T
        )
    }
    return dict(
        **rows,
        speed_up=_spread(times[:, 0] / times[:, 1]),
        mac_ratio=baseline.macs / model.macs,
    )


def _spread(values: np.ndarray) -> dict[str, float]:
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return dict(median=median, p10=p10, p90=p90)


def operator_times(contender: Contender, device: str, runs: int = 5) -> dict[str, float]:
    """Milliseconds per run in each operator, without those that it calls."""
    field = 'self_cpu_time_total'
    if torch.device(device).type == 'cuda':
        event = torch.autograd.profiler_util.FunctionEventAvg
        renamed = hasattr(event, 'self_device_time_total')  # in torch 2.4
        field = 'self_device_time_total' if renamed else 'self_cuda_time_total'
    with torch.no_grad(), torch.profiler.profile() as profiler:
        for _ in range(runs):
            contender.run()
    return {
        event.key: getattr(event, field) / 1e3 / runs for event in profiler.key_averages()
    }


def describe_machine(device: str) -> dict:
    """What a time depends on beside the model."""
    return dict(
        device=_device_name(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        date=date.today().isoformat(),
    )


def _device_name(device: str) -> str:
    if torch.device(device).type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(': ')[1] for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
