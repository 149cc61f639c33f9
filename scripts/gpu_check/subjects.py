"""The parts of mmdyn that are checked and timed: no other module here imports mmdyn."""

from contextlib import ExitStack
from copy import deepcopy

import torch
from torch import Tensor, nn

from gpu_check import ROOT
from mmdyn import set_operating_point
from mmdyn.engine.build import build_model, read_config
from mmdyn.evaluation.latency import time_alternately as time_alternately
from mmdyn.methods.spatial.block import SpatialBottleneck
from mmdyn.methods.spatial.mask_unit import MaskSchedule
from mmdyn.methods.spatial.ops.triton_op import HAS_TRITON as HAS_TRITON
from mmdyn.methods.spatial.random_masks import active_budget, synthetic_masks


def gather_gemm(*arguments) -> None:
    """The operator of the Triton kernel, on any device."""
    torch.ops.mmdyn.gather_gemm(*arguments)


def bottleneck(
    planes: int, mask: Tensor | None, branch: float, like: Tensor
) -> nn.Module:
    """A ResNet bottleneck that keeps its shape, with random weights.

    Args:
        planes (int): Channels of its 3×3 convolution, a quarter of its input's.
        mask (Tensor | None): What its mask unit decides, (N, 1, H, W), whatever it
            computes; ``None``: the block is dense.
        branch (float): Factor of what the branch adds.
        like (Tensor): Tells device and type.
    """
    block = SpatialBottleneck(
        [0.5], 1, MaskSchedule(), 'sparse', in_channels=4 * planes, planes=planes
    )
    for conv in block.branch_convs:
        nn.init.kaiming_normal_(conv.weight)
    if mask is not None:
        block.budget = 0.5
        block.budget_modules.mask_unit.register_forward_hook(lambda *_: mask)
    nn.init.constant_(block.norm(3).weight, branch)  # of the budget, if it has a mask
    return block.eval().to(like, memory_format=torch.channels_last)


def model_of(config: str, overrides: dict) -> nn.Module:
    """The model of a config, with random weights, for evaluation."""
    cfg = read_config(config if '::' in config else str(ROOT / config))
    cfg.merge_from_dict(overrides)
    return build_model(cfg)


def at_point(model: nn.Module, point: str, masks: ExitStack) -> nn.Module:
    """A copy of a model at an operating point, set once.

    A budget, for which mask units are not trained, gets masks of smooth noise that
    execute it exactly; ``masks`` removes them when it is closed.
    """
    model = deepcopy(model)
    set_operating_point(model, point)
    if point.startswith('budget='):
        budget = active_budget(model)
        masks.enter_context(synthetic_masks(model, lambda: budget))
    return model
