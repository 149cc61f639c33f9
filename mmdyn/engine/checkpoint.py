"""Refusing weights that would leave part of a model as it was initialised."""

from __future__ import annotations

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from torch import nn

__all__ = ['load_fitting_checkpoint']

_MAX_LISTED = 10


def load_fitting_checkpoint(model: nn.Module, path: str) -> None:
    """Load a checkpoint that must fill the whole model.

    MMEngine loads what fits and only warns of the rest, so a test would go on with
    random weights. Keys that the model has no use for are allowed.

    Args:
        model (nn.Module): The model, bare or wrapped.
        path (str): Checkpoint file or address, as MMEngine takes it.

    Raises:
        ValueError: If keys of the model are missing in the checkpoint or have another
            shape there; the message lists them.
        FileNotFoundError: If there is no such file.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    weights = checkpoint.get('state_dict', checkpoint)
    weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    try:
        missing = model.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:  # torch lists the keys of another shape
        raise ValueError(f'checkpoint {path} does not fit the model: {error}') from None
    # Old checkpoints do not have these counters, and inference does not use them.
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    if missing:
        more = len(missing) - _MAX_LISTED
        raise ValueError(
            f'checkpoint {path} does not fit the model: it lacks {len(missing)} keys, '
            + ', '.join(missing[:_MAX_LISTED])
            + (f' and {more} more' if more > 0 else '')
        )
