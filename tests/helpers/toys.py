"""A backbone with operating points that belongs to no method, for tests of the core."""

from mmengine.registry import MODELS
from torch import Tensor
from torch.nn.functional import avg_pool2d

from mmdyn import DynamicModule, OperatingPoint
from mmdyn.models.resnet import ResNet


@MODELS.register_module(force=True)
class PoolingResNet(DynamicModule, ResNet):
    """A ResNet that can look at images of a half or a quarter of their size."""

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        return tuple(
            OperatingPoint(name, dict(pool=pool))
            for name, pool in (('pool=4', 4), ('pool=2', 2), ('dense', 1))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward(avg_pool2d(x, self.operating_point.settings['pool']))
