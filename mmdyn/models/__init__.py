from mmdyn.registry import MODELS, register_unavailable

from . import backbones
from .stock_weights import load_stock_weights

__all__ = ['backbones', 'load_stock_weights']

# Whatever is wrong with a package (they assert the versions they like), backbones work.
try:
    from . import multi_exit
    from .backbones.t2t_vit import T2TViT

    __all__ += ['T2TViT', 'multi_exit']
except Exception as error:
    register_unavailable(
        MODELS,
        (
            'MultiExitClassifier',
            'MultiExitEncoderDecoder',
            'LinearExit',
            'SEBottleneckExit',
            'ConfidencePolicy',
            'LearnedGatePolicy',
            'MultiExitDistillation',
            'KnowledgeConsistency',
            'T2TViT',
        ),
        package='mmpretrain',
        reason=error,
    )
else:
    try:
        from .multi_exit import segmentor

        __all__ += ['segmentor']
    except Exception as error:
        register_unavailable(
            MODELS, ('MultiExitEncoderDecoder',), package='mmseg', reason=error
        )
