from .loops import OperatingPointTestLoop, OperatingPointValLoop

__all__ = ['OperatingPointTestLoop', 'OperatingPointValLoop']
