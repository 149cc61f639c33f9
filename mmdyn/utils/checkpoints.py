"""Loading weights that fill the whole model, or not at all."""

from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

_MAX_LISTED = 10


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


def load_checkpoint_strictly(model: nn.Module, file: str) -> None:
    """Load a checkpoint file; errors as of :func:`load_weights_strictly`."""
    load_weights_strictly(
        model, CheckpointLoader.load_checkpoint(file, map_location='cpu')
    )
