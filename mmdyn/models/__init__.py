from mmdyn.registry import MODELS, register_unavailable

from . import backbones
from .stock_weights import load_stock_weights

__all__ = ['backbones', 'load_stock_weights']

try:
    from . import multi_exit

    __all__ += ['multi_exit']
# Whatever is wrong with mmpretrain (it asserts the versions it likes), backbones work.
except Exception as error:
    register_unavailable(
        MODELS,
        (
            'MultiExitClassifier',
            'LinearExit',
            'SEBottleneckExit',
            'ConfidencePolicy',
        ),
        package='mmpretrain',
        reason=error,
    )

try:
    from .multi_exit import segmentor

    __all__ += ['segmentor']
except Exception as error:
    register_unavailable(
        MODELS, ('MultiExitEncoderDecoder',), package='mmseg', reason=error
    )
