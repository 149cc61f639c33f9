"""Executed cost of each exit: JEI-DNN, Regol et al., Eq. 18, Tables 2 and 3."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdyn.methods.multi_exit.exit_record import run_all_exits


class ExitCosts(NamedTuple):
    """MACs per image up to each exit, each (M,); ``gates`` by the paper's count.

    ``backbone`` includes neck and head at the last exit, ``exits`` are those before it.
    """

    backbone: np.ndarray
    exits: np.ndarray
    gates: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.backbone + self.exits + self.gates

    @property
    def normalized(self) -> np.ndarray:
        """IC_norm: shares of the cost of the last exit."""
        return self.total / self.total[-1]


@torch.no_grad()
def measure_exit_costs(model, images: Tensor) -> ExitCosts:
    """Mean cost of each exit over images (N, C, H, W), in evaluation mode."""
    _, (backbone, exits) = run_all_exits(model, images)
    backbone[-1], exits[-1] = backbone[-1] + exits[-1], 0
    gates = np.zeros(model.num_exits)
    gates[:-1] = model.policy.decision_macs(model.num_classes)
    number = len(images)
    return ExitCosts(backbone.cumsum() / number, exits.cumsum() / number, gates.cumsum())
