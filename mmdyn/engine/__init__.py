from .hooks import FittingCheckpointHook
from .loops import OperatingPointTestLoop, OperatingPointValLoop

__all__ = [
    'FittingCheckpointHook',
    'OperatingPointTestLoop',
    'OperatingPointValLoop',
]
