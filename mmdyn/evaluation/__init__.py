from .cost import CostMeter, count_macs
from .latency import measure_latency
from .report import OperatingPointReport, PointResult
from .selection import select_operating_point

__all__ = [
    'CostMeter',
    'OperatingPointReport',
    'PointResult',
    'count_macs',
    'measure_latency',
    'select_operating_point',
]
