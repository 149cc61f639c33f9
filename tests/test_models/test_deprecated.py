"""Places that users may still import from."""

import importlib
import sys

import pytest
from torch import nn

from mmdyn.models import stages


def test_stages_can_be_imported_from_their_old_place():
    sys.modules.pop('mmdyn.models.multi_exit', None)
    with pytest.warns(FutureWarning, match='moved.*mmdyn.models.stages'):
        old = importlib.import_module('mmdyn.models.multi_exit')
    assert old.Stage is stages.Stage

    class Backbone(nn.Module):
        pass

    @old.cut_into_stages.register
    def _(backbone: Backbone) -> list[stages.Stage]:
        return [old.Stage(nn.Identity(), 3, 1)]

    (stage,) = stages.cut_into_stages(Backbone())
    assert (stage.out_channels, stage.stride) == (3, 1)


def test_load_stock_weights_is_where_it_was():
    from mmdyn.models import load_stock_weights
    from mmdyn.models.stock_weights import load_stock_weights as ours

    assert load_stock_weights is ours
