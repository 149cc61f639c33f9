from .budget_schedule_hook import BudgetScheduleHook
from .distillation_hook import DistillationHook
from .fitting_checkpoint_hook import FittingCheckpointHook
from .random_masks_hook import RandomMasksHook
from .training_strategy_hook import TrainingStrategyHook

__all__ = [
    'BudgetScheduleHook',
    'DistillationHook',
    'FittingCheckpointHook',
    'RandomMasksHook',
    'TrainingStrategyHook',
]
