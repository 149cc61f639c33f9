from . import hooks
from .hooks import *  # noqa: F403
from .loops import OperatingPointTestLoop, OperatingPointValLoop

__all__ = [*hooks.__all__, 'OperatingPointTestLoop', 'OperatingPointValLoop']
