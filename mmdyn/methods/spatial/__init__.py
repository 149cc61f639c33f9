"""Budget-aware Dynamic Spatially Adaptive Inference, Zampokas, Bouganis, Tzovaras."""

from mmdyn.registry import HOOKS, MODELS

MODELS.offer('mmdyn.methods.spatial.resnet', 'SpatialResNet')
HOOKS.offer('mmdyn.methods.spatial.schedule_hook', 'BudgetScheduleHook')
HOOKS.offer('mmdyn.methods.spatial.random_masks', 'RandomMasksHook')
