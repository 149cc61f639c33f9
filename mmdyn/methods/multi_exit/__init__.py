"""A Closer Look at Branch Classifiers of Multi-exit Architectures, Lin, Ji, Ji, Yao."""

from mmdyn.registry import HOOKS, MODELS

_ROOM = 'mmdyn.methods.multi_exit'

MODELS.offer(f'{_ROOM}.classifier', 'MultiExitClassifier', needs='mmpretrain')
MODELS.offer(f'{_ROOM}.segmentor', 'MultiExitEncoderDecoder', needs='mmseg')
MODELS.offer(f'{_ROOM}.exits', 'LinearExit', 'SEBottleneckExit')
MODELS.offer(f'{_ROOM}.policies', 'ConfidencePolicy')
MODELS.offer(f'{_ROOM}.distillation', 'MultiExitDistillation')
MODELS.offer(f'{_ROOM}.knowledge_consistency', 'KnowledgeConsistency', needs='mmpretrain')
HOOKS.offer(f'{_ROOM}.training_phases', 'TrainingStrategyHook')
