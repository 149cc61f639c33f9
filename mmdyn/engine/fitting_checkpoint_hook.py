"""Refusing weights that would leave part of a model as it was initialised."""

from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.registry import HOOKS
from mmdyn.utils.checkpoints import check_weights


@HOOKS.register_module()
class FittingCheckpointHook(Hook):
    """Make sure that a loaded checkpoint fills the whole model.

    MMEngine loads what fits and only warns of the rest, so a test would go on with
    random weights. Keys that the model has no use for are allowed. ``tools/test.py``
    always has this hook; a config can have it for training that must start from a
    whole model.

    Example:
        >>> custom_hooks = [dict(type='mmdyn.FittingCheckpointHook')]
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare a checkpoint with the model before the runner puts it in."""
        check_weights(unwrapped(runner.model), checkpoint)
