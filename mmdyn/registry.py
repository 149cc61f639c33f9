"""Child registries of MMEngine's, so that ``type='mmdyn.X'`` works in any config.

MMEngine imports this file when it meets the scope ``mmdyn``. The module of a class is
imported when the class is first asked for, so that a missing or unfit package affects
only the classes that need it.
"""

from importlib import import_module

from mmengine import registry as mmengine_registry
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
    """The error of what needs a package: why its import failed and what to install."""
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
        """Announce the classes that a module registers, and a package that it imports."""
        self._offers.update(dict.fromkeys(names, (module, needs)))

    def get(self, key: str):
        """As in ``Registry``; an ImportError names a package that the class needs."""
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


MODELS = LazyRegistry('model', parent=mmengine_registry.MODELS)
LOOPS = LazyRegistry('loop', parent=mmengine_registry.LOOPS)
HOOKS = LazyRegistry('hook', parent=mmengine_registry.HOOKS)
METRICS = LazyRegistry('metric', parent=mmengine_registry.METRICS)
DATASETS = LazyRegistry('dataset', parent=mmengine_registry.DATASETS)

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
