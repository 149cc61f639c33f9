"""Running modules as in inference in the midst of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ['as_in_inference']


@contextmanager
def as_in_inference(*modules: nn.Module) -> Iterator[None]:
    """Modules in evaluation mode, and no gradients, inside a ``with`` block.

    Each module in them is in the mode it was in when the block ends.
    """
    modes = {m: m.training for module in modules for m in module.modules()}
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
