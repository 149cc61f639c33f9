"""Child registries of MMEngine's, so that ``type='mmdyn.X'`` works in any config.

MMEngine imports this file when it meets the scope ``mmdyn``: no ``custom_imports`` are
needed. A registry knows in which module each of its classes is, and imports that module
when the class is first asked for. So a class that needs a package which is missing, or of
a version it does not like, disturbs no other.
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
"""What cannot be imported of an mmcv that was installed without its operators."""
# pip keeps an mmcv that is there, whatever it lacks.
OPERATORS_HINT = (
    'Operators must be compiled into mmcv. Uninstall the one without them, `pip '
    'uninstall onedl-mmcv mmcv mmcv-lite`; then, for the onedl packages, once torch, '
    'ninja and psutil are installed (about 15 minutes): `pip install '
    '--no-build-isolation --no-cache-dir --no-binary onedl-mmcv onedl-mmcv`, or for '
    "OpenMMLab's, where wheels have them: `mim install mmcv`"
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


class LazyRegistry(Registry):
    """A registry that imports the module of a class when the class is first asked for."""

    def __init__(self, name: str, parent: Registry):
        # The rooms say in their __init__ what they offer.
        super().__init__(name, parent=parent, scope='mmdyn', locations=['mmdyn.methods'])
        self._offers: dict[str, tuple[str, str | None]] = {}

    def offer(self, module: str, *names: str, needs: str | None = None) -> None:
        """Tell where classes are.

        Args:
            module (str): The module that registers them.
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
METRICS.offer(
    'mmdyn.evaluation.uncertainty.metric', 'CalibrationError', 'UncertaintyReport'
)
DATASETS.offer('mmdyn.datasets.long_tail', 'CIFAR10LT', 'CIFAR100LT', needs='mmpretrain')
