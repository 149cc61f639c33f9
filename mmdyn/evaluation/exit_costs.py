"""What leaving at each exit of a network costs.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
Eq. 18, Tables 2 and 3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdyn.models.multi_exit import LearnedGatePolicy
from mmdyn.models.multi_exit.base import run
from mmdyn.models.multi_exit.classifier import MultiExitClassifier

from .cost import CostMeter

__all__ = ['ExitCosts', 'measure_exit_costs']


class ExitCosts(NamedTuple):
    """MACs of an image that leaves at each exit, sums up to there, each (M,).

    Args:
        backbone (np.ndarray): Of the backbone; at the last exit also of neck and head.
        exits (np.ndarray): Of the exits before the head.
        gates (np.ndarray): Of their gates, by the paper's count; 0 without gates.
    """

    backbone: np.ndarray
    exits: np.ndarray
    gates: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.backbone + self.exits + self.gates

    @property
    def normalized(self) -> np.ndarray:
        """IC_norm: shares of what the last exit costs."""
        return self.total / self.total[-1]


@torch.no_grad()
def measure_exit_costs(model: MultiExitClassifier, images: Tensor) -> ExitCosts:
    """Count what each exit costs.

    Args:
        model (MultiExitClassifier): The model, in evaluation mode.
        images (Tensor): Images (N, C, H, W); the count is the mean over them.
    """
    last = model.num_exits - 1
    backbone, exits = np.zeros(last + 1), np.zeros(last + 1)
    x = images
    for exit, part in enumerate(model.parts(range(last + 1), lazily=True)):
        trunk, branch = CostMeter(), CostMeter()
        with trunk:
            x, features = run(part, x)
        with branch if exit < last else trunk:
            model.logits_at(exit, features)
        backbone[exit], exits[exit] = trunk.macs, branch.macs
    gates = np.zeros(last + 1)
    if isinstance(model.policy, LearnedGatePolicy):
        gates[:last] = model.policy.gate_macs(model.num_classes)
    return ExitCosts(
        backbone.cumsum() / len(images), exits.cumsum() / len(images), gates.cumsum()
    )
