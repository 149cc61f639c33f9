"""Child registries of MMEngine's, so that ``type='mmdyn.X'`` works in any config.

MMEngine imports this file when it meets the scope ``mmdyn``: no ``custom_imports`` are
needed. A registry knows the module of each of its classes and imports it when the class
is first asked for, so a missing or unfit package affects only the classes that need it.
"""

from importlib import import_module

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry

INSTALL_HINT = (
    "To install it: `pip install 'mmdyn[onedl]'` or `pip install 'mmdyn[openmmlab]'`"
)
OPERATORS = ('mmcv.ops', 'mmcv._ext')
"""Modules that an mmcv without operators lacks."""
# pip keeps an installed mmcv, also one without operators.
OPERATORS_HINT = (
    'Operators must be compiled into mmcv. Uninstall the one without them, `pip '
    'uninstall onedl-mmcv mmcv mmcv-lite`; then, for the onedl packages, once torch, '
    'ninja and psutil are installed (about 15 minutes): `pip install '
    '--no-build-isolation --no-cache-dir --no-binary onedl-mmcv onedl-mmcv`, or for '
    "OpenMMLab's, where wheels have them: `mim install mmcv`"
)


def import_failure(user: str, package: str, error: Exception) -> ImportError:
    """An error that names a missing package and says what to install.

    Args:
        user (str): What needs the package.
        package (str): Its import name.
        error (Exception): What its import raised; to be given as the cause.
    """
    no_operators = getattr(error, 'name', None) in OPERATORS
    return ImportError(
        f'{user} needs {package}, which cannot be imported ({type(error).__name__}: '
        f'{error}). {OPERATORS_HINT if no_operators else INSTALL_HINT}'
    )


class LazyRegistry(Registry):
    """A registry that imports the module of a class when the class is first asked for."""

    def __init__(self, name: str, parent: Registry):
        # Each room offers its classes in its __init__.
        super().__init__(name, parent=parent, scope='mmdyn', locations=['mmdyn.methods'])
        self._offers: dict[str, tuple[str, str | None]] = {}

    def offer(self, module: str, *names: str, needs: str | None = None) -> None:
        """Announce classes that a module registers.

        Args:
            module (str): The module.
            *names (str): Their registry names.
            needs (str | None): Import name of a package that the module imports and that
                may be missing.
        """
        self._offers.update(dict.fromkeys(names, (module, needs)))

    def get(self, key: str):
        """As in ``Registry``.

        Raises:
            ImportError: If the class needs a package that cannot be imported.
        """
        self.import_from_location()
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope) and name in self._offers:
            module, needs = self._offers[name]
            try:
                import_module(module)
            except Exception as error:  # packages assert the versions they like
                if needs is None:
                    raise
                raise import_failure(f'mmdyn.{name}', needs, error) from error
        return super().get(key)


MODELS = LazyRegistry('model', parent=MMENGINE_MODELS)
LOOPS = LazyRegistry('loop', parent=MMENGINE_LOOPS)
HOOKS = LazyRegistry('hook', parent=MMENGINE_HOOKS)
METRICS = LazyRegistry('metric', parent=MMENGINE_METRICS)
DATASETS = LazyRegistry('dataset', parent=MMENGINE_DATASETS)

MODELS.offer('mmdyn.models.resnet', 'ResNet')
MODELS.offer('mmdyn.models.zoo.densenet', 'DenseNetCIFAR')
MODELS.offer('mmdyn.models.zoo.googlenet', 'GoogLeNetCIFAR')
MODELS.offer('mmdyn.models.zoo.msdnet', 'MSDNet')
LOOPS.offer('mmdyn.engine.loops', 'OperatingPointValLoop')
LOOPS.offer('mmdyn.engine.test_loop', 'OperatingPointTestLoop')
HOOKS.offer('mmdyn.engine.distillation_hook', 'DistillationHook')
HOOKS.offer('mmdyn.engine.fitting_checkpoint_hook', 'FittingCheckpointHook')
HOOKS.offer('mmdyn.engine.schedule_hook', 'OperatingPointScheduleHook')
METRICS.offer(
    'mmdyn.evaluation.uncertainty.metric', 'CalibrationError', 'UncertaintyReport'
)
DATASETS.offer('mmdyn.datasets.long_tail', 'CIFAR10LT', 'CIFAR100LT', needs='mmpretrain')
