"""The Mixture-of-Depths layer: CNN Mixture-of-Depths, Cakaj, Mehnert, Yang, 2024.

Of the C channels of a feature map k are selected, processed, and fused into the map. The
graph is static: the shapes are the same for every input.
"""

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn

from mmdyn.utils.validation import check_choice, check_counts

FUSIONS = ('first', 'last', 'original')


def check_mod_arguments(
    divisor: int, fusion: str, reduction: int, limit: int, limiting: str = 'first block'
) -> dict:
    """Check and return arguments of :class:`MixtureOfDepths`.

    ``limit`` is the highest divisor: the channels of the first block (S1.5), which the
    message calls ``limiting``.
    """
    if not (isinstance(divisor, Integral) and 1 <= divisor <= limit):
        valid = f'1…{limit}, the channels of the {limiting}'
        raise ValueError(f'divisor must lie in {valid}, got {divisor!r}')
    check_choice('fusion', fusion, FUSIONS)
    check_counts(reduction=reduction)
    return dict(divisor=divisor, fusion=fusion, reduction=reduction)


class ChannelSelector(nn.Module):
    """Scores the C channels of a map by squeeze-and-excitation, and picks k (S5).

    The hidden layer has C / ``reduction`` channels.
    """

    def __init__(self, channels: int, num_selected: int, reduction: int = 16):
        super().__init__()
        self.num_selected = num_selected
        hidden = max(1, channels // reduction)
        self.score = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, bias=False),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The k channels (N, k, H, W) of x (N, C, H, W) with the highest scores.

        They are sorted, the best first. Behind them: their scores (N, k, 1, 1), and their
        places among the C channels, repeated over the map (N, k, H, W).
        """
        logits, index = self.score(x.mean((2, 3))).topk(self.num_selected, dim=1)
        scores = logits.sigmoid()  # it keeps the order: only the picked ones need it
        # Gathered with channels last: quick from either memory format, on CPUs twice as
        # quick as along dim 1 of a channels-last map.
        index = index[:, None, None, :].expand(-1, *x.shape[2:], -1)  # N, H, W, k
        selected = x.permute(0, 2, 3, 1).gather(3, index)
        return (
            selected.permute(0, 3, 1, 2),
            scores[..., None, None],
            index.permute(0, 3, 1, 2),
        )


class MixtureOfDepths(nn.Module):
    """Processes k = max(1, C // divisor) channels of a map; the others stay as they are.

    Without gradients it works in place: the input map is changed and returned, and the
    C - k other channels are not copied.

    Args:
        channels (int): Channels C of the feature map.
        divisor (int): The paper's c.
        fusion (str): Channels that the processed ones are added to: the ``'first'`` k,
            the ``'last'`` k (Table 9), or the selected, ``'original'``, ones (Table 8,
            clearly worse).
        reduction (int): C over the channels of the selector's hidden layer.
        relu (bool): Apply a ReLU to the sums; the map is already the output of one.
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
        """The map x (N, C, H, W) with the selected channels, processed, added to k.

        ``process`` maps (N, k, H, W) to (N, k, H, W); its output is weighted by the
        scores, which gives the selector a gradient.
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
