"""mmdyn: the cost of an OpenMMLab vision model, chosen at run time."""

from .apis import *  # noqa: F403
from .apis import __all__ as _apis
from .version import __version__

__all__ = ['__version__', *_apis]
