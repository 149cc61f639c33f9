"""The former place of ``Stage`` and ``cut_into_stages``, to be removed in mmdyn 0.3."""

import warnings

from mmdyn.models.stages import Stage, cut_into_stages

__all__ = ['Stage', 'cut_into_stages']

warnings.warn(
    'mmdyn.models.multi_exit has moved: import Stage and cut_into_stages from '
    'mmdyn.models.stages',
    FutureWarning,
    stacklevel=2,
)
