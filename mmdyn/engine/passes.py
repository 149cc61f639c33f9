"""Parts of a pass over a dataset at one operating point."""

import sys
from collections import defaultdict

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.runner.amp import autocast
from mmengine.runner.loops import _parse_losses, _update_losses
from rich.console import Console
from rich.progress import Progress
from torch import nn

from mmdyn.evaluation.cost import CostMeter
from mmdyn.operating_point import forward_statistics


class PassTotals:
    """Sums over the batches of a pass: MACs, images, losses and forward statistics.

    The model runs its ``stage`` step, ``'val'`` or ``'test'``, in half precision or not.
    """

    def __init__(self, model: nn.Module, stage: str, fp16: bool):
        self.model, self.stage, self.fp16 = model, stage, fp16
        self.meter = CostMeter()
        self._losses: dict = {}
        self._statistics: dict[str, float] = defaultdict(float)

    @torch.no_grad()
    def run(self, data_batch) -> list:
        """Run the model on a batch; returns its predictions."""
        with self.meter, autocast(enabled=self.fp16):
            outputs = getattr(self.model, f'{self.stage}_step')(data_batch)
        outputs, self._losses = _update_losses(outputs, self._losses)
        self.meter.images += len(outputs)
        for name, value in forward_statistics(self.model).items():
            self._statistics[name] += value * len(outputs)
        return outputs

    def reduce(self) -> dict[str, float]:
        """Add up the totals of all ranks, which must call it once; returns the means."""
        self.meter.reduce()
        losses = _parse_losses(self._losses, self.stage) if self._losses else {}
        totals = torch.tensor(list(self._statistics.values()), dtype=torch.float64)
        all_reduce(totals)
        means = (totals / self.meter.images).tolist()
        return {**losses, **dict(zip(self._statistics, means))}


def progress_bar() -> Progress:
    """A bar on stderr, if that is a terminal."""
    visible = is_main_process() and sys.stderr.isatty()
    return Progress(console=Console(stderr=True), disable=not visible, transient=True)
