"""Child registries of MMEngine's, so that ``type='mmdyn.X'`` works in any config.

MMEngine imports this file when it meets the scope ``mmdyn``, and a registry imports its
``locations`` when something is first looked up in it: no ``custom_imports`` needed.
"""

from __future__ import annotations

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

__all__ = ['DATASETS', 'HOOKS', 'LOOPS', 'METRICS', 'MODELS', 'register_unavailable']

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmdyn', locations=['mmdyn.models']
)
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmdyn', locations=['mmdyn.engine'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmdyn', locations=['mmdyn.engine'])
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmdyn', locations=['mmdyn.evaluation']
)
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmdyn', locations=['mmdyn.datasets']
)


def register_unavailable(
    registry: Registry, names: tuple[str, ...], package: str, reason: Exception
) -> None:
    """Make names whose code needs a package that fails to import say so when built.

    Args:
        registry (Registry): Where the names would be registered.
        names (tuple[str, ...]): The registry names that cannot be offered.
        package (str): The import name of the package.
        reason (Exception): What its import raised.
    """

    def refusal(name: str):
        def build(**_):
            raise ImportError(
                f'mmdyn.{name} needs {package}, which cannot be imported '
                f'({type(reason).__name__}: {reason}). To install it: `pip install '
                f"'mmdyn[onedl]'` or `pip install 'mmdyn[openmmlab]'`"
            ) from reason

        return build

    for name in names:
        registry.register_module(name=name, module=refusal(name))
