from .classifier import MultiExitClassifier
from .distillation import MultiExitDistillation
from .exits import LinearExit, SEBottleneckExit
from .knowledge_consistency import KnowledgeConsistency
from .policies import ConfidencePolicy
from .stages import Stage, cut_into_stages

__all__ = [
    'ConfidencePolicy',
    'KnowledgeConsistency',
    'LinearExit',
    'MultiExitClassifier',
    'MultiExitDistillation',
    'SEBottleneckExit',
    'Stage',
    'cut_into_stages',
]
