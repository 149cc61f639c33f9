"""Branch heads, from features to logits (Lin et al., Fig. 2 left, IV-B and Table I)."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdyn.methods.multi_exit.se_bottleneck import SEBottleneck
from mmdyn.models.stages import Stage
from mmdyn.registry import MODELS

NORMAL = dict(type='Normal', layer='Linear', std=0.01)


class Exit(BaseModule):
    """A branch head, which maps features (N, C, H, W) to logits (N, num_classes)."""

    @classmethod
    def arguments_at(cls, stage: Stage, last_branch: Stage) -> dict:
        """Arguments that follow from the stage of the exit and the last stage but one."""
        return dict(in_channels=stage.out_channels)


@MODELS.register_module()
class LinearExit(Exit):
    """Global average pooling of maps, and one linear layer.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features.
        init_cfg (dict | None): Initialisation.
    """

    def __init__(self, num_classes: int, in_channels: int, init_cfg=NORMAL):
        super().__init__(init_cfg)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of features x (N, C, H, W) or (N, C)."""
        return self.fc(x.mean((2, 3)) if x.dim() == 4 else x)


@MODELS.register_module()
class SEBottleneckExit(Exit):
    """A branch of ``level`` SE-bottlenecks.

    A convolution first brings the features to the size and channels of the last branch's
    stage. The first SE-bottleneck halves the map and doubles the channels. So the cost of
    a level does not depend on the stage (Table I).

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features.
        channels (int): Channels after the first convolution.
        stride (int): Stride of the first convolution.
        level (int): Number of SE-bottlenecks, not negative; 0: the paper's naive branch,
            pooling and a linear layer.
        se (bool): Whether the blocks have squeeze-and-excitation.
        norm_cfg (dict): Config of the norms.
        init_cfg (dict | list | None): Initialisation.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        channels: int,
        stride: int,
        level: int = 1,
        se: bool = True,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: dict | list | None = [dict(type='Kaiming', layer='Conv2d'), NORMAL],
    ):
        super().__init__(init_cfg)
        if type(level) is not int or level < 0:
            raise ValueError(f'level must be 0 (the naive branch) or more, got {level!r}')
        self.blocks, width = nn.Sequential(), in_channels
        if level:
            width = 2 * channels
            # Kernel stride + 2 with padding 1 divides any map's size by the stride.
            layout = (in_channels, channels, stride + 2, stride, 1)
            self.blocks.append(ConvModule(*layout, norm_cfg=norm_cfg))
            self.blocks.append(SEBottleneck(channels, width, 2, se, norm_cfg))
            for _ in range(level - 1):
                self.blocks.append(SEBottleneck(width, width, 1, se, norm_cfg))
        self.fc = nn.Linear(width, num_classes)

    @classmethod
    def arguments_at(cls, stage: Stage, last_branch: Stage) -> dict:
        return dict(
            in_channels=stage.out_channels,
            channels=last_branch.out_channels,
            stride=max(1, last_branch.stride // stage.stride),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of features x (N, C, H, W)."""
        return self.fc(self.blocks(x).mean((2, 3)))


def build_exit(cfg: dict, stage: Stage, last_branch: Stage, num_classes: int) -> Exit:
    """Build an exit, filling in the arguments that its config leaves out."""
    arguments = {'num_classes': num_classes, **cfg}
    name = arguments.pop('type', None)
    del arguments['stage']
    exit_type = MODELS.get(name) if isinstance(name, str) else name
    if not (isinstance(exit_type, type) and issubclass(exit_type, Exit)):
        raise ValueError(
            f'exits need the type of an exit, for example mmdyn.LinearExit, got {name!r}'
        )
    if (found := arguments['num_classes']) != num_classes:
        raise ValueError(f'exits need the {num_classes} classes of the head, got {found}')
    return exit_type(**exit_type.arguments_at(stage, last_branch) | arguments)


def exits_of_levels(config: dict, num_stages: int) -> list[dict]:
    """Configs of exits of several levels after the stages before the last one.

    Lin et al., section III-A: three exits follow stages 1 to 3 of the four of a ResNet,
    and stages 2 to 4 of the five of a VGG.
    """
    shared = dict(config)
    levels = shared.pop('levels', None)
    if not isinstance(levels, Sequence) or not 1 <= len(levels) < num_stages:
        raise ValueError(
            f'exits need levels, one for each exit and at most {num_stages - 1} behind '
            f'the {num_stages} stages of this backbone, got {levels!r}'
        )
    if 'stage' in shared or 'level' in shared:
        raise ValueError('levels give each exit its stage and level: leave both out')
    first = num_stages - len(levels)
    return [dict(shared, stage=s, level=level) for s, level in enumerate(levels, first)]
