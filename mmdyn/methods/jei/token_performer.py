"""Performer layer of tokens-to-token: attention at a cost linear in the tokens.

Tokens-to-Token ViT, Yuan et al., ICCV 2021, with the positive random features of
Rethinking Attention with Performers, Choromanski et al., ICLR 2021, Lemma 1: for rows ω
of a standard normal distribution, exp(q·k) is the mean of
exp(ω·q − |q|²/2) exp(ω·k − |k|²/2).

T2T-ViT, whose published weights need it so, has rows half as many and as long: its kernel
is near exp(−|q − k|²/4) rather than exp(q·k).
"""

import math

import torch
from torch import Tensor, nn

from mmdyn.utils.validation import check_counts


def positive_random_features(x: Tensor, w: Tensor) -> Tensor:
    """exp(w·x − |x|²/2) / √m (N, L, m), of queries or keys (N, L, C) and rows (m, C)."""
    half_squares = x.square().sum(dim=-1, keepdim=True) / 2
    return torch.exp(x @ w.t() - half_squares) / math.sqrt(len(w))


def linear_attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Means (N, L, C) of values by the kernel of queries and keys (N, L, C), rows (m, C).

    The L×L kernel matrix is never made: keys and values are multiplied first.
    """
    q, k = positive_random_features(q, w), positive_random_features(k, w)
    sums = q @ k.sum(dim=1).unsqueeze(2)  # N, L, 1: of the rows of the kernel matrix
    return q @ (k.transpose(1, 2) @ v) / (sums + 1e-8)


class TokenPerformer(nn.Module):
    """One head of linear attention with the values as skip connection, and an MLP.

    Modules have the names of the authors' code, so that their weights fit. The random
    rows ``w`` (embed_dims / 2, embed_dims) are orthogonal, and never trained.

    Args:
        input_dims (int): Channels of the tokens before.
        embed_dims (int): Channels of the tokens behind, at least 2.

    Raises:
        ValueError: For fewer channels.
    """

    def __init__(self, input_dims: int, embed_dims: int):
        super().__init__()
        check_counts(input_dims=input_dims, embed_dims=embed_dims)
        if embed_dims < 2:
            raise ValueError(f'embed_dims must be 2 or more, got {embed_dims}')
        self.norm1 = nn.LayerNorm(input_dims)
        self.kqv = nn.Linear(input_dims, 3 * embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.drop = nn.Dropout(0.1)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, embed_dims),
            nn.GELU(),
            nn.Linear(embed_dims, embed_dims),
            nn.Dropout(0.1),
        )
        w = nn.init.orthogonal_(torch.empty(embed_dims // 2, embed_dims))
        self.w = nn.Parameter(w * math.sqrt(len(w)), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, L, embed_dims), from tokens (N, L, input_dims)."""
        k, q, v = self.kqv(self.norm1(x)).chunk(3, dim=-1)
        # Sums of exponentials over thousands of tokens are beyond half precision.
        with torch.autocast(x.device.type, enabled=False):
            y = linear_attention(q.float(), k.float(), v.float(), self.w.float())
        x = v + self.drop(self.proj(y.to(v.dtype)))
        return x + self.mlp(self.norm2(x))
