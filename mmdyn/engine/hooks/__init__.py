from .fitting_checkpoint_hook import FittingCheckpointHook

__all__ = ['FittingCheckpointHook']
