"""What all backbones of mmdyn share: frozen stages, fixed norms, stock checkpoints."""

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdyn.models.stages import Cuttable


class Backbone(Cuttable, BaseModule):
    """Base of the backbones.

    A subclass sets :attr:`norm_eval` and calls :meth:`freeze` when its modules exist.

    Attributes:
        norm_eval (bool): Keep BN statistics fixed in training.
    """

    norm_eval: bool = False

    def frozen_modules(self) -> list[nn.Module]:
        """Modules that are not to be trained."""
        return []

    def rename_stock_keys(self, state_dict: dict, prefix: str = '') -> None:
        """Rename keys of stock checkpoints to ours, in place; others stay.

        Args:
            state_dict (dict): Weights, of this backbone or of a model that contains it.
            prefix (str): What keys of this backbone start with, for example
                ``'backbone.'``.
        """

    def freeze(self) -> None:
        for module in self.frozen_modules():
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> 'Backbone':
        super().train(mode)
        self.freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        self.rename_stock_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


class StackOfStages(Backbone):
    """Base of backbones that are a stem and stages in a row.

    Attributes:
        stem (nn.Module): What comes before the stages.
        stages (nn.ModuleList): The stages.
        out_indices (tuple[int, ...]): Places of the stages whose outputs are returned.
        frozen_stages (int): Stages that are not trained, with the stem; -1 for none and
            a stem that is.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features of images.

        Args:
            x (Tensor): Images of shape (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: Outputs of the stages in ``out_indices``.
        """
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)

    def frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.stem, *self.stages[: self.frozen_stages]]


def rename_modules(state_dict: dict, names: dict[str, str]) -> None:
    """Rename, in place, the tensors of some modules.

    Args:
        state_dict (dict): Weights.
        names (dict[str, str]): New names of modules, by their old ones.
    """
    for key in list(state_dict):
        module, _, tensor = key.rpartition('.')
        if module in names:
            state_dict[f'{names[module]}.{tensor}'] = state_dict.pop(key)
