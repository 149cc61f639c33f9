"""Which methods there are: a room may have been deleted."""

import pytest

from mmdyn import registry
from mmdyn.registry import MODELS

REGISTRIES = (MODELS, registry.HOOKS, registry.LOOPS, registry.METRICS, registry.DATASETS)


def offers():
    """Module and needed package of each class in the registries, by its name."""
    MODELS.import_from_location()
    return {name: offer for each in REGISTRIES for name, offer in each._offers.items()}


def needs(*names):
    """A mark of tests that use classes of other rooms than their own."""
    missing = set(names) - offers().keys()
    return pytest.mark.skipif(bool(missing), reason=f'there is no {" or ".join(missing)}')


def existing(settings):
    """The entries of a dict of settings whose ``type`` there is."""
    missing = {
        key
        for key, value in settings.items()
        if value['type'].startswith('mmdyn.') and value['type'][6:] not in offers()
    }
    return {key: value for key, value in settings.items() if key not in missing}
