from .hooks import (
    BudgetScheduleHook,
    DistillationHook,
    FittingCheckpointHook,
    RandomMasksHook,
    TrainingStrategyHook,
)
from .loops import OperatingPointTestLoop, OperatingPointValLoop

__all__ = [
    'BudgetScheduleHook',
    'DistillationHook',
    'FittingCheckpointHook',
    'OperatingPointTestLoop',
    'OperatingPointValLoop',
    'RandomMasksHook',
    'TrainingStrategyHook',
]
