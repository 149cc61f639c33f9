"""Executed cost: multiply-accumulates (MACs) of the operators that really ran."""

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mmdyn.utils.eval_mode import eval_mode


def _cpu_attention_flops(query, key, value, *_, out_shape=None, **__) -> int:
    return sdpa_flop_count(query, key, value)


def _cpu_formulas() -> dict:
    """Torch has formulas for the attention kernels of accelerators, but not of CPUs."""
    name = '_scaled_dot_product_flash_attention_for_cpu'
    kernel = getattr(torch.ops.aten, name, None)  # None before torch 2.2
    return {kernel: _cpu_attention_flops} if kernel else {}


def _switch_fused_attention(enabled: bool) -> bool:
    """Switch fused attention, whose products the counter misses; the former state."""
    if not hasattr(torch.backends, 'mha'):  # torch 2.1 cannot switch them
        return True
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    return before


class CostMeter:
    """Count the MACs of the operators that run inside ``with`` blocks.

    Counts convolutions, linear layers, matrix products and attention, by the formulas of
    ``torch.utils.flop_counter``; not norms, activations, pooling and resizing. It slows
    small operators down: measure latency without it.

    Attributes:
        macs (int): Multiply-accumulates of all blocks so far.
        images (int): Images so far; the caller adds them.

    Example:
        >>> meter = CostMeter()
        >>> with meter:
        ...     model(images)
        >>> meter.images += len(images)
        >>> meter.macs_per_image
    """

    def __init__(self):
        self.macs, self.images = 0, 0
        self._counter = FlopCounterMode(display=False, custom_mapping=_cpu_formulas())

    def __enter__(self) -> 'CostMeter':
        self._fast_attention = _switch_fused_attention(False)
        self._counter.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._counter.__exit__(*exception)
        _switch_fused_attention(self._fast_attention)
        self.macs += self._counter.get_total_flops() // 2

    @property
    def macs_per_image(self) -> float:
        """Mean MACs per image; a ``ValueError`` if no image was counted."""
        if self.images == 0:
            raise ValueError('no image was counted: add the batch size to meter.images')
        return self.macs / self.images

    def reduce(self) -> None:
        """Add up MACs and images over all ranks; every rank must call it."""
        totals = torch.tensor([self.macs, self.images], dtype=torch.int64)
        all_reduce(totals)
        self.macs, self.images = totals.tolist()


def count_macs(model: nn.Module, shape: Sequence[int], **forward_arguments) -> int:
    """Count the MACs of one image at the active operating point, as a CostMeter does.

    Args:
        model (nn.Module): A model or a backbone that runs on one tensor of images.
        shape (Sequence[int]): Shape (C, H, W) of the image, in pixels. Its values are
            random, and so is the count where the cost depends on them.
        **forward_arguments: Further arguments of the model's ``forward``.
    """
    parameter = next(model.parameters())
    image = torch.rand(1, *shape, device=parameter.device, dtype=parameter.dtype)
    meter = CostMeter()
    with eval_mode(model), meter:
        model(image, **forward_arguments)
    return meter.macs
