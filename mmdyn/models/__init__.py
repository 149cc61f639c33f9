from importlib.util import find_spec

from mmdyn.registry import MODELS, register_unavailable

from . import backbones

__all__ = ['backbones']

if find_spec('mmpretrain'):
    from . import multi_exit

    __all__ += ['multi_exit']
else:
    register_unavailable(
        MODELS,
        (
            'MultiExitClassifier',
            'LinearExit',
            'SEBottleneckExit',
            'ConfidencePolicy',
        ),
        package='mmpretrain',
    )
