from .classifier import MultiExitClassifier
from .exits import LinearExit, SEBottleneckExit
from .policies import ConfidencePolicy
from .stages import Stage, cut_into_stages

__all__ = [
    'ConfidencePolicy',
    'LinearExit',
    'MultiExitClassifier',
    'SEBottleneckExit',
    'Stage',
    'cut_into_stages',
]
