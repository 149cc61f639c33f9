from mmdyn.registry import MODELS, register_unavailable

from . import backbones

__all__ = ['backbones']

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
