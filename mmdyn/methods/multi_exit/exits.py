"""Branch heads: layers that map a stage's features to logits.

A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin et al.: Fig. 2 left,
section IV-B and Table I.
"""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmdyn.methods.multi_exit.se_bottleneck import SEBottleneck
from mmdyn.models.stages import Stage
from mmdyn.registry import MODELS


class Exit(BaseModule):
    """A branch head, which maps features (N, C, H, W) to logits (N, num_classes).

    A subclass takes ``num_classes`` and what :meth:`arguments_at` returns.
    """

    @classmethod
    def arguments_at(cls, stage: Stage, last_branch: Stage) -> dict:
        """Constructor arguments that follow from the place of the exit.

        ``last_branch`` is the last stage but one, the last that a branch can follow.
        """
        return dict(in_channels=stage.out_channels)


@MODELS.register_module()
class LinearExit(Exit):
    """Global average pooling of maps, and one linear layer.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features.
        init_cfg (dict | None): Initialisation.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        init_cfg: dict | None = dict(type='Normal', layer='Linear', std=0.01),
    ):
        super().__init__(init_cfg)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of features x (N, C, H, W) or (N, C)."""
        return self.fc(x.mean((2, 3)) if x.dim() == 4 else x)


@MODELS.register_module()
class SEBottleneckExit(Exit):
    """A branch of ``level`` SE-bottlenecks.

    A convolution first brings the features to the size and channels of the last branch's
    stage: kernel 3, 4, 6 for stride 1, 2, 4. The first SE-bottleneck halves the map and
    doubles the channels, so the cost of a level does not depend on the stage (Table I).

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the features.
        channels (int): Channels after the first convolution.
        stride (int): Stride of the first convolution.
        level (int): Number of SE-bottlenecks; 0 is the paper's naive branch, pooling and
            a linear layer.
        se (bool): Whether the blocks have squeeze-and-excitation.
        norm_cfg (dict): Config of the norms.
        init_cfg (dict | list | None): Initialisation.

    Raises:
        ValueError: If ``level`` is negative.
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
        init_cfg: dict | list | None = (
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Normal', layer='Linear', std=0.01),
        ),
    ):
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        if type(level) is not int or level < 0:
            raise ValueError(
                f'level must be 0 (the naive branch) or more SE-bottlenecks, got '
                f'{level!r}'
            )
        self.blocks, width = nn.Sequential(), in_channels
        if level:
            # Kernel stride + 2 with padding 1 divides any map's size by the stride.
            kernel, width = stride + 2, 2 * channels
            self.blocks.append(
                ConvModule(
                    in_channels, channels, kernel, stride, padding=1, norm_cfg=norm_cfg
                )
            )
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
    """Build an exit, filling in the arguments that its config leaves out.

    Raises:
        ValueError: For a type that is not an exit, or another number of classes.
    """
    arguments = {k: v for k, v in cfg.items() if k not in ('stage', 'type')}
    name = cfg.get('type')
    exit_type = MODELS.get(name) if isinstance(name, str) else name
    if not (isinstance(exit_type, type) and issubclass(exit_type, Exit)):
        raise ValueError(
            f'exits need the type of an exit, for example mmdyn.LinearExit or '
            f'mmdyn.SEBottleneckExit, got {name!r}'
        )
    if arguments.setdefault('num_classes', num_classes) != num_classes:
        raise ValueError(
            f'all exits need the {num_classes} classes of the head, got '
            f'{arguments["num_classes"]}'
        )
    return exit_type(**{**exit_type.arguments_at(stage, last_branch), **arguments})


def exits_of_levels(config: dict, num_stages: int) -> list[dict]:
    """Configs of exits of several levels after the stages before the last one.

    Lin et al., section III-A: three exits follow stages 1 to 3 of the four of a ResNet,
    and stages 2 to 4 of the five of a VGG.

    Args:
        config (dict): Config of an exit, with the ``levels`` of all exits in order.
        num_stages (int): Stages of the backbone.

    Raises:
        ValueError: If there are no levels, or not enough stages for them.
    """
    levels = config.get('levels')
    if not isinstance(levels, Sequence) or not 1 <= len(levels) < num_stages:
        raise ValueError(
            f'exits need levels, one for each exit and at most {num_stages - 1} behind '
            f'the {num_stages} stages of this backbone, got {levels!r}'
        )
    if 'stage' in config or 'level' in config:
        raise ValueError(
            'levels already give each exit its stage and level: leave stage and level out'
        )
    shared = {name: value for name, value in config.items() if name != 'levels'}
    first = num_stages - len(levels)
    return [
        dict(shared, stage=stage, level=level)
        for stage, level in enumerate(levels, first)
    ]
