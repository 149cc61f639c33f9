"""Loading of checkpoints of mmpretrain, mmseg, mmdet and torchvision in code.

In a config ``init_cfg=dict(type='Pretrained', …)`` and ``load_from`` do so; this also
returns what was not loaded.
"""

from collections import defaultdict
from dataclasses import dataclass

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from mmdyn.models.backbone import Backbone

_COUNTER = 'num_batches_tracked'  # of no effect, and not in every checkpoint


@dataclass(frozen=True)
class StockWeights:
    """The result of :func:`load_stock_weights`: names of modules."""

    loaded: tuple[str, ...]  # all their tensors
    initial: tuple[str, ...]  # of the model, which kept their values
    unused: tuple[str, ...]  # of the checkpoint, under the model's names

    def __str__(self) -> str:
        return (
            f'{len(self.loaded)} modules loaded\n'
            f'{len(self.initial)} keep their values: {", ".join(self.initial)}\n'
            f'{len(self.unused)} of the checkpoint unused: {", ".join(self.unused)}'
        )


def load_stock_weights(model: nn.Module, checkpoint: str | dict) -> StockWeights:
    """Copy weights from a stock checkpoint into every layer that coincides with its own.

    A module's own tensors are loaded together or not at all: a norm whose statistics fit
    but whose weights do not is left alone. The result is logged. A model that is not
    initialised yet is so first, since a runner would otherwise overwrite the weights.

    Args:
        model (nn.Module): A backbone of mmdyn, or a model that contains one.
        checkpoint (str | dict): A file, an address that MMEngine can load
            (``'torchvision://resnet50'``, ``'https://…'``), or weights by their keys.
            Weights of a whole model fit a bare backbone, and the reverse.

    Raises:
        ValueError: If no module coincides.
    """
    if isinstance(model, BaseModule) and not model.is_init:
        model.init_weights()
    ours = _by_module(model.state_dict())
    theirs = _by_module(_renamed(model, _read(checkpoint)))
    loaded = {  # in the model's order
        name: theirs[name]
        for name, tensors in ours.items()
        if _coincide(tensors, theirs.get(name, {}))
    }
    if not loaded:
        raise ValueError(
            f'no layer of the {type(model).__name__} is in the checkpoint, whose first '
            f'modules are {list(theirs)[:3]}; the model has {list(ours)[:3]}'
        )
    fitting = {
        f'{name}.{key}'.lstrip('.'): tensor
        for name, tensors in loaded.items()
        for key, tensor in tensors.items()
    }
    model.load_state_dict(fitting, strict=False)
    result = StockWeights(
        loaded=tuple(loaded),
        initial=tuple(name for name in ours if name not in loaded),
        unused=tuple(name for name in theirs if name not in loaded),
    )
    print_log(str(result), logger='current')
    return result


def _read(checkpoint: str | dict) -> dict[str, Tensor]:
    if isinstance(checkpoint, str):
        checkpoint = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    return dict(checkpoint.get('state_dict', checkpoint))


def _renamed(model: nn.Module, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the names that they have in the model."""
    state_dict = {key.removeprefix('module.'): t for key, t in state_dict.items()}
    for name, module in model.named_modules():
        if isinstance(module, Backbone):
            prefix = f'{name}.' if name else ''
            state_dict = _with_prefix(state_dict, prefix)
            module.rename_stock_keys(state_dict, prefix)
    return state_dict


def _with_prefix(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Let keys of a backbone begin as the model's do: with ``'backbone.'`` or nothing."""
    whole = any(key.startswith('backbone.') for key in state_dict)
    if whole and not prefix:
        return {key.removeprefix('backbone.'): t for key, t in state_dict.items()}
    if prefix and not any(key.startswith(prefix) for key in state_dict):
        return {prefix + key: tensor for key, tensor in state_dict.items()}
    return state_dict


def _by_module(state_dict: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in state_dict.items():
        module, _, name = key.rpartition('.')
        if name != _COUNTER:
            modules[module][name] = tensor
    return dict(modules)


def _coincide(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(
        theirs[key].shape == tensor.shape for key, tensor in ours.items()
    )
