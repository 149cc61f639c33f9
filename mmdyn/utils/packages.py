"""Errors that name the package that a config needs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

from mmdyn.registry import OPERATORS, import_failure

PACKAGES = ('mmpretrain', 'mmseg', 'mmdet')


def check_packages(cfg: Config) -> None:
    """Import mmpretrain, mmseg or mmdet, if a config's ``default_scope`` is one of them.

    Raises:
        ImportError: If the package or mmcv's operators are missing; the message says
            what to install. Other errors of its import pass unchanged.
    """
    scope = cfg.get('default_scope')
    if scope in PACKAGES:
        with _missing_packages_named(f'default_scope={scope!r}'):
            import_module(scope)
            import_module(f'{scope}.models')


def config_from_file(path: str | Path) -> Config:
    """Read a config file, whose bases may be those of a package.

    Raises:
        ImportError: If such a package is missing; the message says what to install.
    """
    with _missing_packages_named(str(path)):
        return Config.fromfile(path)


@contextmanager
def _missing_packages_named(user: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        if package := _missing_package(error):
            raise import_failure(user, package, error) from error
        raise


def _missing_package(error: ImportError) -> str | None:
    """The package whose absence made an import fail, if it is one of ours."""
    if error.name in OPERATORS:
        return 'mmcv.ops'
    package = error.name or _distribution_missed_by_mmengine(error)
    # A module that an installed package does not have is another error.
    return package if package in PACKAGES and find_spec(package) is None else None


def _distribution_missed_by_mmengine(error: ImportError) -> str | None:
    """Import name of the package of a config's base such as ``mmdet::…``."""
    match = re.match(r'(\w+) is not installed, please install', str(error))
    names = {'mmsegmentation': 'mmseg'}
    return names.get(match[1], match[1]) if match else None
