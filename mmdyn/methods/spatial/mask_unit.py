"""Mask unit: predicts the positions of an image that a residual block computes.

Dynamic Convolutions, Verelst and Tuytelaars, CVPR 2020: a 3×3 convolution to one channel
plus a linear layer of the pooled map. The hard decision is trained with Gumbel noise and
a straight-through gradient. Deciding for cells of positions is an addition of ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass
class MaskSchedule:
    """State of the sampling of masks in training; a hook changes it."""

    temperature: float = 1.0  # divides the noisy logits before the sigmoid
    noise: bool = True  # whether Gumbel noise is added to the logits
    progress: float = 0.0  # tightness of the bounds of blocks; see ``budget_loss``


class MaskUnit(nn.Module):
    """One decision for every cell of positions of a block's output.

    Args:
        channels (int): Channels C of the block's input.
        stride (int): Stride of the block.
        cell (int): Height and width of the cells. Above 1 they see the mean of their
            positions.
        schedule (MaskSchedule): How to sample in training; shared by all units.
    """

    def __init__(self, channels: int, stride: int, cell: int, schedule: MaskSchedule):
        super().__init__()
        self.stride = stride
        self.cell = cell
        self.schedule = schedule
        self.conv = nn.Conv2d(channels, 1, 3, stride if cell == 1 else 1, padding=1)
        self.fc = nn.Linear(channels, 1)

    def reset_parameters(self) -> None:
        """Initialise as torch does; the network's own would saturate the sigmoid."""
        self.conv.reset_parameters()
        self.fc.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Predict the mask of an input x (N, C, H, W) of the block.

        Ones and zeros, (N, 1, ceil(H / stride), ceil(W / stride)). In training they have
        the gradient of the sigmoid of the noisy logits.
        """
        mask = self.decide(self.logits(x))
        if self.cell == 1:
            return mask
        height, width = (-(-size // self.stride) for size in x.shape[2:])
        mask = functional.interpolate(mask, scale_factor=float(self.cell), mode='nearest')
        return mask[..., :height, :width]

    def logits(self, x: Tensor) -> Tensor:
        """The logit of each cell, (N, 1, rows, columns)."""
        if self.cell > 1:
            size = self.cell * self.stride
            x = functional.avg_pool2d(x, size, ceil_mode=True, count_include_pad=False)
        # Not every exporter that traces knows fold.
        if self.conv.stride[0] > 1 or torch.jit.is_tracing():
            return self.conv(x) + self.fc(x.mean(dim=(2, 3)))[:, :, None, None]
        return self._products_then_shifts(x)

    def _products_then_shifts(self, x: Tensor) -> Tensor:
        """The same numbers from one product with 10 channels, reading x once.

        Kernels for convolutions to one channel compute 8 or 16 and discard the others.
        The linear layer moves before the pooling, which averages its outputs.
        """
        height, width = x.shape[2:]
        taps = self.conv.weight[0].flip(1, 2).flatten(1).t()  # fold mirrors the kernel
        weight = torch.cat([taps, self.fc.weight])
        products = functional.conv2d(x, weight[:, :, None, None])  # N, 10, H, W
        local = functional.fold(products[:, :9].flatten(2), (height, width), 3, padding=1)
        pooled = products[:, 9:].mean(dim=(2, 3), keepdim=True)
        return local + (pooled + self.fc.bias + self.conv.bias)

    def decide(self, logits: Tensor) -> Tensor:
        """Ones where to compute, sampled in training."""
        if not self.training:
            return (logits >= 0).to(logits.dtype)
        noisy = logits.float()
        if self.schedule.noise:
            # The difference of two Gumbel variables is logistic.
            noisy = noisy + torch.logit(torch.rand_like(noisy), eps=1e-6)
        soft = torch.sigmoid(noisy / self.schedule.temperature)
        hard = (soft >= 0.5).float()
        return (hard + (soft - soft.detach())).to(logits.dtype)

    def extra_repr(self) -> str:
        return f'stride={self.stride}, cell={self.cell}'
