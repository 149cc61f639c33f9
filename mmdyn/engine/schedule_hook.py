"""Training of one network at several operating points, one point per iteration."""

import random
from collections.abc import Sequence

from mmengine.dist import broadcast_object_list
from torch import nn

from mmdyn.engine.loss_hook import LossHook, unwrapped
from mmdyn.operating_point import (
    DynamicModule,
    OperatingPoint,
    find_operating_points,
    forward_statistics,
    operating_points,
    set_operating_point,
    trained_operating_points,
)
from mmdyn.registry import HOOKS
from mmdyn.utils.validation import check_choice

ORDERS = ('round_robin', 'random', 'sandwich')


@HOOKS.register_module()
class OperatingPointScheduleHook(LossHook):
    """Train the operating points of any dynamic module alternately.

    Before each iteration it activates a point; to the model's losses it adds the
    auxiliary losses of its dynamic modules, and it logs their statistics under
    ``<point>/<statistic>``. Where several modules have a choice, every combination of
    their points is trained. A resumed training continues exactly.

    If a point leaves parameters unused, distributed training needs
    ``find_unused_parameters=True`` in the config.

    Args:
        order (str): ``'round_robin'``, ``'random'``, or ``'sandwich'`` (alternately the
            first and cheapest point, the last and costliest, and a random one between;
            Universally Slimmable Networks, Yu and Huang, ICCV 2019, take all in one
            iteration).
        points (Sequence[str] | None): Names of the points to train; ``None``: all but
            those kept as an untrained reference.
        weight (float): Weight of the auxiliary losses.

    Raises:
        ValueError: For an unknown order, a negative weight, and when training begins for
            a model without a choice of operating points or without those named.

    Example:
        >>> custom_hooks = [dict(type='mmdyn.OperatingPointScheduleHook')]
        >>> val_cfg = dict(type='mmdyn.OperatingPointValLoop')
    """

    def __init__(
        self,
        order: str = 'round_robin',
        points: Sequence[str] | None = None,
        weight: float = 1.0,
    ):
        check_choice('order', order, ORDERS)
        if points is not None and (isinstance(points, str) or not points):
            raise ValueError(f'points must be a list of names, got {points!r}')
        if not weight >= 0:
            raise ValueError(f'weight must be 0 or more, got {weight!r}')
        self.order = order
        self.names = points
        self.weight = weight

    def before_train(self, runner) -> None:
        self.modules = self.switched_modules(unwrapped(runner.model))
        first = self.modules[0]
        if self.names is None:
            self.points = list(trained_operating_points(first))
        else:
            self.points = find_operating_points(first, self.names)
        seeds = [runner.seed or 0]  # those of single ranks may differ
        broadcast_object_list(seeds)
        self._seed = seeds[0]
        super().before_train(runner)

    def switched_modules(self, model: nn.Module) -> list[nn.Module]:
        """The modules to switch, each to the same points; a ``ValueError`` for none."""
        points = operating_points(model)
        if len(points) == 1:
            raise ValueError(
                f'{type(self).__name__} needs a model with several operating points; '
                f'{type(model).__name__} has only {points[0].name!r}'
            )
        return [model]

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self.point = point_at(runner.iter, self.points, self.order, self._seed)
        for module in self.modules:
            set_operating_point(module, self.point)

    def change_losses(self, model, args, kwargs, losses: dict) -> dict:
        for part in self._dynamic_modules():
            for name, loss in part.auxiliary_losses().items():
                losses[name] = losses.get(name, 0) + self.weight * loss
        return losses

    def _dynamic_modules(self) -> list[DynamicModule]:
        parts = [part for module in self.modules for part in module.modules()]
        return [part for part in parts if isinstance(part, DynamicModule)]

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None):
        for part in self._dynamic_modules():
            part.release_losses()
        for name, value in self.statistics().items():
            runner.message_hub.update_scalar(f'train/{self.point}/{name}', value)

    def statistics(self) -> dict[str, float]:
        """Numbers to log about the latest forward pass."""
        return forward_statistics(self.modules[0])


def point_at(
    step: int, points: Sequence[OperatingPoint], order: str, seed: int
) -> OperatingPoint:
    """The operating point of iteration ``step``, the same on all ranks."""
    chance = random.Random(f'{seed}/{step}')
    if order == 'random' or len(points) == 1:
        return chance.choice(points)
    if order == 'sandwich':
        ends = (points[0], points[-1], chance.choice(points[1:-1] or points))
        return ends[step % 3]
    return points[step % len(points)]
