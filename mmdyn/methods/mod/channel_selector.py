"""Channel selector of Mixture-of-Depths CNNs (Cakaj, Mehnert, Yang, 2024, S5)."""

from torch import Tensor, nn


class ChannelSelector(nn.Module):
    """Score the channels of a feature map and pick the highest.

    The scores come from a squeeze-and-excitation network: global average pooling,
    Linear(C, C / reduction), ReLU, Linear(C / reduction, C), sigmoid.

    Args:
        channels (int): Channels C of the feature map.
        num_selected (int): Channels k to pick for each sample.
        reduction (int): How many times narrower the hidden layer is.
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
        """Select channels.

        Args:
            x (Tensor): Feature map of shape (N, C, H, W).

        Returns:
            tuple[Tensor, Tensor, Tensor]: The k channels with the highest scores, best
            first, (N, k, H, W), their scores, (N, k, 1, 1), and their places among the C
            channels, repeated over the map, (N, k, H, W).
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
