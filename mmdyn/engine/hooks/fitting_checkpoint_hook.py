"""Refusing weights that would leave part of a model as it was initialised."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmdyn.registry import HOOKS

from .loss_hook import unwrapped

__all__ = ['FittingCheckpointHook', 'load_fitting_checkpoint']

_MAX_LISTED = 10


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
        load_if_it_fits(unwrapped(runner.model), checkpoint)


def load_if_it_fits(model: nn.Module, checkpoint: dict) -> None:
    """Put a checkpoint's weights into a model, if it has all of them.

    Args:
        model (nn.Module): The model.
        checkpoint (dict): Weights, or what a runner saves.

    Raises:
        ValueError: If keys of the model are missing in the checkpoint or have another
            shape there; the message lists them.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    problem = 'the checkpoint does not fit the model: '
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:  # torch lists the keys of another shape
        raise ValueError(f'{problem}{error}') from None
    # Old checkpoints lack these counters, and inference does not use them.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    if missing:
        listed = ', '.join(missing[:_MAX_LISTED])
        more = len(missing) - _MAX_LISTED
        raise ValueError(
            f'{problem}it lacks {len(missing)} keys, {listed}'
            + (f' and {more} more' if more > 0 else '')
        )


def load_fitting_checkpoint(model: nn.Module, file: str) -> None:
    """Load a checkpoint file; errors as of :func:`load_if_it_fits`."""
    load_if_it_fits(model, CheckpointLoader.load_checkpoint(file, map_location='cpu'))
