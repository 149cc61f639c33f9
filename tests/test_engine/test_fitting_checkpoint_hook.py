from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmdyn.engine.fitting_checkpoint_hook import FittingCheckpointHook


def check(model, state):
    FittingCheckpointHook().after_load_checkpoint(SimpleNamespace(model=model), state)


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_whole_checkpoints_pass(model):
    state = model.state_dict()
    check(model, dict(state_dict=state))
    check(model, state)
    check(nn.DataParallel(model), state)
    check(model, {f'module.{key}': value for key, value in state.items()})
    check(model, {**state, 'unused': state['0.bias']})
    del state['1.num_batches_tracked']
    check(model, state)


def test_weights_are_only_compared(model):
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    check(model, other)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_keys_that_a_model_renames_are_known():
    class Renaming(nn.Linear):
        def _load_from_state_dict(self, state_dict, prefix, *args):
            state_dict[f'{prefix}weight'] = state_dict.pop(f'{prefix}w')
            super()._load_from_state_dict(state_dict, prefix, *args)

    check(
        nn.Sequential(Renaming(2, 3)), {'0.w': torch.ones(3, 2), '0.bias': torch.ones(3)}
    )


def test_missing_keys_are_listed(model):
    with pytest.raises(ValueError, match='does not fit.*lacks 2 keys, 0.weight, 0.bias$'):
        check(model, {k: v for k, v in model.state_dict().items() if k[0] == '1'})
    many = nn.Sequential(*(nn.Linear(1, 1) for _ in range(6)))
    with pytest.raises(ValueError, match='lacks 12 keys, 0.weight.* and 2 more'):
        check(many, {})


def test_other_shapes_are_listed(model):
    other = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)).state_dict()
    with pytest.raises(ValueError, match='size mismatch for 0.weight'):
        check(model, other)
