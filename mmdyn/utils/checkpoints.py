"""Loading of weights that must fill the whole model."""

import warnings
from copy import deepcopy

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

MAX_LISTED = 10


def check_weights(model: nn.Module, checkpoint: dict) -> None:
    """Check that :func:`load_weights_strictly` would succeed; the model stays."""
    # Models may rename or resize what they load, so load it into a copy without values.
    empty = {id(t): torch.empty_like(t, device='meta') for t in model.buffers()}
    for parameter in model.parameters():
        values = torch.empty_like(parameter, device='meta')
        empty[id(parameter)] = nn.Parameter(values, parameter.requires_grad)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='for .*meta parameter')
        load_weights_strictly(deepcopy(model, empty), checkpoint)


def load_weights_strictly(model: nn.Module, checkpoint: dict) -> None:
    """Load a checkpoint, weights or what a runner saves, into a model.

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
        listed = ', '.join(missing[:MAX_LISTED])
        if len(missing) > MAX_LISTED:
            listed += f' and {len(missing) - MAX_LISTED} more'
        raise ValueError(f'{problem}it lacks {len(missing)} keys, {listed}')


def load_checkpoint_strictly(model: nn.Module, file: str) -> dict:
    """Load a checkpoint file as :func:`load_weights_strictly` does; returns it."""
    checkpoint = CheckpointLoader.load_checkpoint(file, map_location='cpu')
    load_weights_strictly(model, checkpoint)
    return checkpoint
