"""Performer layer of tokens-to-token: attention at a cost linear in the tokens.

Tokens-to-Token ViT, Yuan et al., ICCV 2021, with the positive random features of
Rethinking Attention with Performers, Choromanski et al., ICLR 2021, Lemma 1: for rows ω
of a standard normal distribution, exp(q·k) is the mean of
exp(ω·q − |q|²/2) exp(ω·k − |k|²/2).

The layer of T2T-ViT departs from the lemma: it has half as many rows as channels, of the
length for so few channels, so its kernel is near exp(−|q − k|²/4) rather than exp(q·k).
The published weights need it so.
"""

import math

import torch
from torch import Tensor, nn

from mmdyn.utils.validation import check_counts

# Of random features for one channel of the keys, and of the dropout: the authors'.
_KERNEL_RATIO = 0.5
_DROP_RATE = 0.1
_EPSILON = 1e-8


def positive_random_features(x: Tensor, w: Tensor) -> Tensor:
    """exp(w·x − |x|²/2) / √m, whose products stand for a kernel of the x.

    From queries or keys (N, L, C) and random rows (m, C), features (N, L, m) above 0.
    """
    half_squares = x.square().sum(dim=-1, keepdim=True) / 2
    return torch.exp(x @ w.t() - half_squares) / math.sqrt(len(w))


def linear_attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Means of the values, weighed by the kernel of each query and each key.

    The L×L kernel matrix is never made: keys and values are multiplied first. Queries,
    keys, values and means are (N, L, C), random rows (m, C).
    """
    q, k = positive_random_features(q, w), positive_random_features(k, w)
    sums = q @ k.sum(dim=1).unsqueeze(2)  # N, L, 1: of the rows of the kernel matrix
    return q @ (k.transpose(1, 2) @ v) / (sums + _EPSILON)


class TokenPerformer(nn.Module):
    """One head of linear attention with the values as skip connection, and an MLP.

    Modules have the names of the authors' code, so that their weights fit.

    Args:
        input_dims (int): Channels of the tokens before.
        embed_dims (int): Channels of the tokens behind, at least 2; half as many random
            features.

    Attributes:
        w (nn.Parameter): The random rows (m, C), orthogonal and of length √m; never
            trained.

    Raises:
        ValueError: If there are no channels, or too few for one random feature.
    """

    def __init__(self, input_dims: int, embed_dims: int):
        super().__init__()
        check_counts(input_dims=input_dims, embed_dims=embed_dims)
        features = int(embed_dims * _KERNEL_RATIO)
        if features < 1:
            raise ValueError(f'embed_dims must be 2 or more, got {embed_dims}')
        self.norm1 = nn.LayerNorm(input_dims)
        self.kqv = nn.Linear(input_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(_DROP_RATE)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.GELU(),
            nn.Linear(embed_dims, embed_dims),
            nn.Dropout(_DROP_RATE),
        )
        w = nn.init.orthogonal_(torch.empty(features, embed_dims))
        self.w = nn.Parameter(w * math.sqrt(features), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the layer for tokens x (N, L, input_dims); gives (N, L, embed_dims)."""
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        # Sums of exponentials over thousands of tokens are beyond half precision.
        with torch.autocast(x.device.type, enabled=False):
            y = linear_attention(q.float(), k.float(), v.float(), self.w.float())
        x = v + self.drop(self.proj(y.to(v.dtype)))
        return x + self.mlp(self.norm2(x))
