"""Loading weights that fill the whole model, or not at all."""

import warnings
from copy import deepcopy

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

_MAX_LISTED = 10


def check_weights(model: nn.Module, checkpoint: dict) -> None:
    """Compare a checkpoint with a model, whose weights do not change.

    Arguments and errors are those of :func:`load_weights_strictly`.
    """
    # Models may rename or resize what they load: it is loaded into a copy of the model
    # that has shapes and no values.
    empty = {id(t): torch.empty_like(t, device='meta') for t in model.buffers()}
    for parameter in model.parameters():
        values = torch.empty_like(parameter, device='meta')
        empty[id(parameter)] = nn.Parameter(values, parameter.requires_grad)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='for .*meta parameter')
        load_weights_strictly(deepcopy(model, empty), checkpoint)


def load_weights_strictly(model: nn.Module, checkpoint: dict) -> None:
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


def load_checkpoint_strictly(model: nn.Module, file: str) -> dict:
    """Load a checkpoint file; errors as of :func:`load_weights_strictly`.

    Returns:
        dict: The checkpoint.
    """
    checkpoint = CheckpointLoader.load_checkpoint(file, map_location='cpu')
    load_weights_strictly(model, checkpoint)
    return checkpoint
