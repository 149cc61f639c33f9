"""Mixture-of-Depths ResNet: CNN Mixture-of-Depths, Cakaj, Mehnert, Yang, 2024.

Every second residual block of a stage works on the few channels that a selector scores
highest; the rest of the feature map passes untouched.
"""

from torch import Tensor, nn

from mmdyn.methods.mod.layer import MixtureOfDepths, check_mod_arguments
from mmdyn.models.residual_block import BasicBlock, Bottleneck, ResidualBlock
from mmdyn.models.resnet import ResNet
from mmdyn.operating_point import DynamicModule
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_counts


class MoDBlock(ResidualBlock):
    """Mixin of a residual block that keeps its shape: the branch is k channels wide.

    Args:
        divisor, fusion, reduction: See :class:`MixtureOfDepths`.
        **kwargs: Arguments of :class:`ResidualBlock`.
    """

    def __init__(self, divisor: int, fusion: str, reduction: int, **kwargs):
        self.mod_arguments = dict(divisor=divisor, fusion=fusion, reduction=reduction)
        super().__init__(**kwargs)

    def add_branch(self, in_channels: int, planes: int, out_channels: int) -> None:
        self.mod = MixtureOfDepths(in_channels, **self.mod_arguments)
        k = self.mod.num_selected
        super().add_branch(k, max(1, k // self.expansion), k)

    def narrow_branch(self, x: Tensor) -> Tensor:
        """The branch, for the selected channels x (N, k, H, W)."""
        return super().branch(x)

    def branch(self, x: Tensor) -> Tensor:
        return self.mod(x, self.narrow_branch)

    def forward(self, x: Tensor) -> Tensor:
        return self.run_branch(x)


class MoDBasicBlock(MoDBlock, BasicBlock):
    """Two 3×3 convolutions of k channels."""


class MoDBottleneck(MoDBlock, Bottleneck):
    """1×1, 3×3, 1×1 convolutions of k, k / 4, k channels."""


@MODELS.register_module()
class ResNetMoD(DynamicModule, ResNet):
    """ResNet in which blocks 1, 3, 5, … of each stage are Mixture-of-Depths blocks.

    Depths 18, 26, 34 and 42 have basic blocks, 50, 75, 86, 101 and 152 bottlenecks
    (Table 5). Its cost is lower than a ResNet's, but not switchable: it has the one
    operating point ``dense``. Checkpoints of a stock ResNet fill all but the MoD blocks.

    Without gradients a MoD block changes the output of the block before it in place: a
    hook that keeps a block's output has to copy it. Outputs of stages stay. The norms of
    a MoD block have k = C / divisor channels, in a bottleneck k / 4 as well: the number
    of groups of group norms must divide these.

    Args:
        depth (int): Number of layers with weights.
        divisor (int): The paper's c: a MoD block processes 1 / c of its channels.
        fusion, reduction: See :class:`MixtureOfDepths`.
        **kwargs: Arguments of :class:`ResNet`.

    Raises:
        ValueError: For an unknown depth or fusion, a divisor outside 1…64 (64: the
            channels of the first block), or a reduction below 1.
    """

    arch_settings = {
        18: (BasicBlock, (2, 2, 2, 2)),
        26: (BasicBlock, (2, 2, 3, 4)),
        34: (BasicBlock, (3, 4, 6, 3)),
        42: (BasicBlock, (3, 3, 6, 6)),
        50: (Bottleneck, (3, 4, 6, 3)),
        75: (Bottleneck, (3, 4, 14, 3)),
        86: (Bottleneck, (3, 4, 18, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }
    cifar_depths = ()
    mod_blocks = {BasicBlock: MoDBasicBlock, Bottleneck: MoDBottleneck}

    def __init__(
        self,
        depth: int,
        divisor: int = 64,
        fusion: str = 'first',
        reduction: int = 16,
        **kwargs,
    ):
        limit = kwargs.get('base_channels') or 64
        check_counts(base_channels=limit)
        self.mod_arguments = check_mod_arguments(divisor, fusion, reduction, limit)
        super().__init__(depth, **kwargs)

    def make_block(self, index: int, **kwargs) -> nn.Module:
        if index % 2 == 0:
            return super().make_block(index, **kwargs)
        return self.mod_blocks[self.block](**self.mod_arguments, **kwargs)
