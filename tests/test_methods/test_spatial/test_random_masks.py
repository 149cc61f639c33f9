import pytest
import torch
from helpers.reference import outputs_of
from torch import nn

from mmdyn import at_operating_point
from mmdyn.methods.spatial.ponder_maps import recorded_masks, summed_maps
from mmdyn.methods.spatial.random_masks import active_budget, synthetic_masks
from mmdyn.methods.spatial.resnet import SpatialResNet
from mmdyn.models.resnet import ResNet


@pytest.mark.parametrize('share', [0.3, 0.5, 0.7])
@pytest.mark.parametrize('depth', [14, 50])
def test_every_block_executes_the_share(share, depth):
    model = SpatialResNet(depth, stem='imagenet', execution='sparse').eval()
    with synthetic_masks(model, lambda: share), at_operating_point(model, 'budget=0.5'):
        outputs_of(model, torch.rand(2, 3, 224, 224))
        costs = model.block_costs()
        executed = model.forward_statistics()['executed_share']
    for name, cost in costs.items():
        positions = dict(layer1=56, layer2=28, layer3=14, layer4=7)[name[:6]] ** 2
        # One more active position would execute more; the last stage is coarse.
        step = 1 if positions > 500 else 4
        assert share <= cost.executed / cost.total < share + step * 9 / positions / 2, (
            name
        )
    assert executed == pytest.approx(share, abs=0.01)


def masks_of(model, **arguments):
    with (
        at_operating_point(model, 'budget=0.5'),
        synthetic_masks(model, lambda: 0.4, **arguments),
        recorded_masks(model) as masks,
    ):
        for _ in range(2):
            outputs_of(model, torch.rand(2, 3, 32, 32))
            yield dict(masks)


def test_fixed_and_random_masks():
    model = SpatialResNet(8).eval()
    units = [m for n, m in model.named_modules() if n.endswith('mask_unit')]
    first, second = masks_of(model)
    assert len(first) == 3
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first['layer1.0'][0], first['layer1.0'][1])
    first, second = masks_of(model, fixed=False)
    assert not torch.equal(first['layer1.0'], second['layer1.0'])
    assert not any(unit._forward_hooks for unit in units)
    assert not model._forward_pre_hooks


def test_masks_are_blobs():
    """Neighbours agree far more often than positions drawn one by one."""
    model = SpatialResNet(8).eval()
    mask = next(masks_of(model))['layer1.0']
    agree = (mask[..., 1:] == mask[..., :-1]).float().mean()
    density = mask.mean()
    assert agree > 1 - density * (1 - density)  # twice that would be chance


def test_budget_in_force():
    model = nn.Sequential(SpatialResNet(8))
    with at_operating_point(model, 'budget=0.7'):
        assert active_budget(model) == 0.7
    with pytest.raises(ValueError, match='no masks at dense'):
        active_budget(model)
    with pytest.raises(ValueError, match='ResNet has no module with budgets'):
        active_budget(ResNet(8))


def test_summed_maps_count_blocks_at_every_resolution():
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    fine[..., 0, 0] = 1
    coarse[..., 0, 0] = 1
    counted = summed_maps(dict(a=fine, b=coarse), (4, 4))
    assert counted.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]
