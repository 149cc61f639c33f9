from .distillation import MultiExitDistillation
from .exits import LinearExit, SEBottleneckExit
from .learned_gates import LearnedGatePolicy
from .policies import ConfidencePolicy
from .stages import Stage, cut_into_stages

__all__ = [
    'ConfidencePolicy',
    'LearnedGatePolicy',
    'LinearExit',
    'MultiExitDistillation',
    'SEBottleneckExit',
    'Stage',
    'cut_into_stages',
]
