from .classifier import MultiExitClassifier
from .distillation import MultiExitDistillation
from .exits import LinearExit, SEBottleneckExit
from .knowledge_consistency import KnowledgeConsistency
from .learned_gates import LearnedGatePolicy
from .policies import ConfidencePolicy
from .stages import Stage, cut_into_stages

__all__ = [
    'ConfidencePolicy',
    'KnowledgeConsistency',
    'LearnedGatePolicy',
    'LinearExit',
    'MultiExitClassifier',
    'MultiExitDistillation',
    'SEBottleneckExit',
    'Stage',
    'cut_into_stages',
]
