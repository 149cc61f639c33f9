"""What leaving at each exit of a network costs.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
Eq. 18, Tables 2 and 3.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmdyn.evaluation.cost import CostMeter
from mmdyn.methods.multi_exit.classifier import MultiExitClassifier
from mmdyn.models.stages import Walk


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
    walk = Walk(model.parts(range(last + 1), lazy=True), images)
    for exit in range(last + 1):
        trunk, branch = CostMeter(), CostMeter()
        with trunk:
            features = next(walk)
        with branch if exit < last else trunk:
            model.logits_at(exit, features)
        backbone[exit], exits[exit] = trunk.macs, branch.macs
    gates = np.zeros(last + 1)
    gates[:last] = model.policy.decision_macs(model.num_classes)
    return ExitCosts(
        backbone.cumsum() / len(images), exits.cumsum() / len(images), gates.cumsum()
    )
