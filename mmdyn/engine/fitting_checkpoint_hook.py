"""A hook that refuses weights which would leave part of a model at random."""

from mmengine.hooks import Hook

from mmdyn.engine.loss_hook import unwrapped
from mmdyn.registry import HOOKS
from mmdyn.utils.checkpoints import check_weights


@HOOKS.register_module()
class FittingCheckpointHook(Hook):
    """Make sure that a loaded checkpoint fills the whole model.

    MMEngine loads the keys that fit and only warns of the rest, so a test would go on
    with random weights. Keys that the model does not have are allowed. ``tools/test.py``
    always uses this hook; a config can, for training that must start from a whole model.

    Example:
        >>> custom_hooks = [dict(type='mmdyn.FittingCheckpointHook')]
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare a checkpoint with the model before the runner puts it in."""
        check_weights(unwrapped(runner.model), checkpoint)
