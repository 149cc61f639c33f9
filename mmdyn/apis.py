"""The public names, imported as ``from mmdyn import …``."""

from mmdyn.evaluation.cost import CostMeter, count_macs
from mmdyn.evaluation.report import OperatingPointReport
from mmdyn.evaluation.saved_points import load_operating_points
from mmdyn.evaluation.selection import select_operating_point
from mmdyn.operating_point import (
    DynamicModule,
    OperatingPoint,
    at_operating_point,
    dense_operating_point,
    operating_points,
    set_operating_point,
)

__all__ = [
    'CostMeter',
    'DynamicModule',
    'OperatingPoint',
    'OperatingPointReport',
    'at_operating_point',
    'count_macs',
    'dense_operating_point',
    'load_operating_points',
    'operating_points',
    'select_operating_point',
    'set_operating_point',
]
