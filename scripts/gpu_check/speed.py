"""Networks at their operating points against their dense networks."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from gpu_check.subjects import at_point, model_of
from gpu_check.timing import time_calls

DTYPES = dict(bf16=torch.bfloat16, fp32=torch.float32)


@dataclass
class Case:
    """A network and what it is compared with, as ``cases.json`` has it.

    Args:
        config (str): Config of the network.
        points (list[str]): Its operating points.
        shape (list[int]): C, H and W of the images.
        dense (str | None): Config of the dense network; ``None``: its own dense point.
        overrides (dict): Settings of ``config`` to change.
        compiled (list[str]): Points that are compiled too.
    """

    config: str
    points: list[str]
    shape: list[int]
    dense: str | None = None
    overrides: dict = field(default_factory=dict)
    compiled: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return ' '.join([Path(self.config).stem, *map(str, self.overrides.values())])

    @cached_property
    def model(self) -> nn.Module:
        return model_of(self.config, self.overrides)

    @cached_property
    def dense_model(self) -> nn.Module:
        return model_of(self.dense, {}) if self.dense else self.model


def cases(dry: bool) -> list[Case]:
    lists = json.loads(Path(__file__).with_name('cases.json').read_text())
    return [Case(**case) for case in lists['dry' if dry else 'full']]


def jobs(args) -> dict:
    every, batches = cases(args.dry), (2, 1) if args.dry else (64, 1, 256)
    eager = {
        f'{case} batch {batch} {dtype}': partial(
            _rows, args, case, case.points, batch, dtype, False
        )
        for dtype in DTYPES
        for batch in batches
        for case in every
    }
    return eager | {
        f'{case} {point} batch {batches[0]} bf16 compiled': partial(
            _rows, args, case, [point], batches[0], 'bf16', True
        )
        for case in every
        for point in case.compiled
    }


@torch.no_grad()
def _rows(args, case: Case, points, batch, dtype: str, compiled: bool) -> Iterator[dict]:
    images = torch.rand(batch, *case.shape, device=args.device).to(DTYPES[dtype])
    images = images.contiguous(memory_format=torch.channels_last)
    models = {'dense network': (case.dense_model, 'dense')}
    models |= {point: (case.model, point) for point in points}
    calls = {}
    with ExitStack() as masks:
        for name, (model, point) in models.items():
            model = at_point(model, point, masks)
            model.to(images, memory_format=torch.channels_last)
            if compiled:
                model.compile(backend='eager' if args.dry else 'inductor')
            calls[name] = partial(model, images)
        for name, time in time_calls(calls, args.seconds).items():
            yield dict(point=name, **time)
