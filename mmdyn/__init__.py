"""mmdyn: the cost of an OpenMMLab vision model, chosen at run time."""

from importlib import import_module
from typing import TYPE_CHECKING

from mmdyn.version import __version__

if TYPE_CHECKING:
    from mmdyn.apis import *  # noqa: F403

__all__ = [  # noqa: F405
    'CostMeter',
    'DynamicModule',
    'OperatingPoint',
    'OperatingPointReport',
    '__version__',
    'at_operating_point',
    'count_macs',
    'dense_operating_point',
    'load_operating_points',
    'operating_points',
    'select_operating_point',
    'set_operating_point',
]


def __getattr__(name: str):
    # A tool's --help must not wait for torch.
    if name in __all__:
        return getattr(import_module('mmdyn.apis'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
