from mmdyn.registry import MODELS, register_unavailable

from . import backbones, multi_exit
from .stock_weights import load_stock_weights

__all__ = ['backbones', 'load_stock_weights', 'multi_exit']

# Whatever is wrong with a package (they assert the versions they like), all else works.
try:
    from .backbones.t2t_vit import T2TViT
    from .multi_exit.classifier import MultiExitClassifier
    from .multi_exit.knowledge_consistency import KnowledgeConsistency

    __all__ += ['KnowledgeConsistency', 'MultiExitClassifier', 'T2TViT']
except Exception as error:
    register_unavailable(
        MODELS,
        ('KnowledgeConsistency', 'MultiExitClassifier', 'T2TViT'),
        package='mmpretrain',
        reason=error,
    )
try:
    from .multi_exit.segmentor import MultiExitEncoderDecoder

    __all__ += ['MultiExitEncoderDecoder']
except Exception as error:
    register_unavailable(
        MODELS, ('MultiExitEncoderDecoder',), package='mmseg', reason=error
    )
