"""Base of the hooks that change the losses that a model returns."""

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside of the wrappers for DDP and test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def check_finds_unused(model: nn.Module, cause: str) -> None:
    """Refuse a DDP wrapper that needs gradients that ``cause`` does not give."""
    if is_model_wrapper(model) and not getattr(model, 'find_unused_parameters', True):
        raise ValueError(
            f'{cause} leaves parameters unused: distributed training needs '
            f'find_unused_parameters=True in the config'
        )


class LossHook(Hook):
    """Base of hooks that change the loss dict of every training forward pass.

    Its values are logged, and back-propagated where their names contain ``loss``; AMP,
    gradient accumulation and DDP treat them like the model's own losses.
    """

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        self._handle = model.register_forward_hook(self._on_forward, with_kwargs=True)

    def after_train(self, runner) -> None:
        self._handle.remove()

    def _on_forward(self, model, args, kwargs, output):
        mode = kwargs.get('mode', args[2] if len(args) > 2 else 'tensor')
        if mode != 'loss':
            return output
        return self.change_losses(model, args, kwargs, dict(output))

    def change_losses(self, model: nn.Module, args, kwargs, losses: dict) -> dict:
        """Return the losses to use for these; ``args`` and ``kwargs`` are the model's."""
        raise NotImplementedError
