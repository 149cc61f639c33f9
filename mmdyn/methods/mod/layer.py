"""The Mixture-of-Depths layer: CNN Mixture-of-Depths, Cakaj, Mehnert, Yang, 2024.

Of the C channels of a feature map k are selected, processed, and fused into the map. The
graph is static: the shapes are the same for every input.
"""

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn

from mmdyn.methods.mod.channel_selector import ChannelSelector
from mmdyn.utils.validation import check_choice, check_counts

FUSIONS = ('first', 'last', 'original')


def check_mod_arguments(
    divisor: int, fusion: str, reduction: int, limit: int, limiting: str = 'first block'
) -> dict:
    """Check arguments of :class:`MixtureOfDepths`; returns them, or raises a ValueError.

    Args:
        divisor, fusion, reduction: The arguments.
        limit (int): The highest divisor: the channels of the first block (S1.5).
        limiting (str): The block that has that many channels, for the message.
    """
    if not (isinstance(divisor, Integral) and 1 <= divisor <= limit):
        raise ValueError(
            f'divisor must lie in 1…{limit}, the channels of the {limiting}, '
            f'got {divisor!r}'
        )
    check_choice('fusion', fusion, FUSIONS)
    check_counts(reduction=reduction)
    return dict(divisor=divisor, fusion=fusion, reduction=reduction)


class MixtureOfDepths(nn.Module):
    """Process k = max(1, C // divisor) channels of a feature map, leave the others alone.

    Without gradients it works in place: the input map is changed and returned, and the
    C - k other channels are not copied.

    Args:
        channels (int): Channels C of the feature map.
        divisor (int): The paper's c.
        fusion (str): Where the processed channels are added: to the ``'first'`` k, to
            the ``'last'`` k (Table 9), or to the ``'original'`` places of the selected
            ones (Table 8, clearly worse).
        reduction (int): How many times narrower the selector's hidden layer is.
        relu (bool): Whether a ReLU follows, here of the sums alone: the map itself is
            taken to be the output of one.
    """

    def __init__(
        self, channels: int, divisor: int, fusion: str, reduction: int, relu: bool = True
    ):
        super().__init__()
        self.num_selected = max(1, channels // divisor)
        self.fusion = fusion
        self.relu = relu
        self.selector = ChannelSelector(channels, self.num_selected, reduction)

    def forward(self, x: Tensor, process: Callable[[Tensor], Tensor]) -> Tensor:
        """Route channels.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).
            process (Callable[[Tensor], Tensor]): Processes the selected channels,
                (N, k, H, W) to (N, k, H, W). Its output is weighted by their scores,
                which gives the selector a gradient.

        Returns:
            Tensor: The feature map with the processed channels added to k of its own.
        """
        # The older ONNX exporter, which traces, loses writes into a slice.
        in_place = not (torch.is_grad_enabled() or torch.jit.is_tracing())
        selected, scores, index = self.selector(x)
        processed = process(selected)
        if self.fusion == 'original':
            fused = self._add(selected, processed, scores)
            write = Tensor.scatter_ if in_place else Tensor.scatter
            return write(x, 1, index, fused)
        k = self.num_selected
        first = self.fusion == 'first'
        target, rest = (x[:, :k], x[:, k:]) if first else (x[:, -k:], x[:, :-k])
        if in_place:
            target.addcmul_(processed, scores)
            if self.relu:
                target.relu_()
            return x
        fused = self._add(target, processed, scores)
        return torch.cat([fused, rest] if first else [rest, fused], dim=1)

    def _add(self, target: Tensor, processed: Tensor, scores: Tensor) -> Tensor:
        total = target.addcmul(processed, scores)
        return total.relu() if self.relu else total

    def extra_repr(self) -> str:
        return f'fusion={self.fusion!r}, relu={self.relu}'
