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

__all__ = [
    'DATASETS',
    'HOOKS',
    'INSTALL_HINT',
    'LOOPS',
    'METRICS',
    'MODELS',
    'OPERATORS',
    'import_failure',
    'register_unavailable',
]

INSTALL_HINT = (
    "To install it: `pip install 'mmdyn[onedl]'` or `pip install 'mmdyn[openmmlab]'`"
)
OPERATORS = ('mmcv.ops', 'mmcv._ext')
"""What cannot be imported of an mmcv that was installed without its operators."""
# pip keeps an mmcv that is there, whatever it lacks.
OPERATORS_HINT = (
    'Operators must be compiled into mmcv. Uninstall the one without them, `pip '
    'uninstall onedl-mmcv mmcv mmcv-lite`; then, for the onedl packages, once torch, '
    'ninja and psutil are installed (about 15 minutes): `pip install '
    '--no-build-isolation --no-cache-dir --no-binary onedl-mmcv onedl-mmcv`, or for '
    "OpenMMLab's, where wheels have them: `mim install mmcv`"
)

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


def import_failure(user: str, package: str, error: Exception) -> ImportError:
    """An error that says which package is needed, what is wrong and what to install.

    Args:
        user (str): What needs the package.
        package (str): The import name of the package.
        error (Exception): What its import raised, to be given as the cause.
    """
    no_operators = getattr(error, 'name', None) in OPERATORS
    return ImportError(
        f'{user} needs {package}, which cannot be imported ({type(error).__name__}: '
        f'{error}). {OPERATORS_HINT if no_operators else INSTALL_HINT}'
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
            raise import_failure(f'mmdyn.{name}', package, reason) from reason

        return build

    for name in names:
        registry.register_module(name=name, module=refusal(name))
