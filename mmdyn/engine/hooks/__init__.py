from mmdyn.registry import HOOKS, register_unavailable

from .budget_schedule_hook import BudgetScheduleHook
from .distillation_hook import DistillationHook
from .fitting_checkpoint_hook import FittingCheckpointHook
from .random_masks_hook import RandomMasksHook

__all__ = [
    'BudgetScheduleHook',
    'DistillationHook',
    'FittingCheckpointHook',
    'RandomMasksHook',
]

# Those of classifiers; the hooks above serve mmseg and mmdet without mmpretrain.
try:
    from .jei_schedule_hook import JEIScheduleHook
    from .training_strategy_hook import TrainingStrategyHook

    __all__ += ['JEIScheduleHook', 'TrainingStrategyHook']
except Exception as error:
    register_unavailable(
        HOOKS,
        ('JEIScheduleHook', 'TrainingStrategyHook'),
        package='mmpretrain',
        reason=error,
    )
