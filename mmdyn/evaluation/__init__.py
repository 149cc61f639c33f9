from .calibration import CalibrationError
from .cost import CostMeter, count_macs
from .latency import measure_latency
from .report import OperatingPointReport, PointResult
from .selection import select_operating_point
from .uncertainty import UncertaintyReport

__all__ = [
    'CalibrationError',
    'CostMeter',
    'OperatingPointReport',
    'PointResult',
    'UncertaintyReport',
    'count_macs',
    'measure_latency',
    'select_operating_point',
]
