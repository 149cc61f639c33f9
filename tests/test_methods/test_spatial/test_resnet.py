import copy
import logging
import pickle

import pytest
import torch
from helpers.reference import (
    assert_same_in_onnxruntime,
    macs_by_formula,
    outputs_of,
    randomize_norms,
)
from helpers.spatial_reference import FixedMask, block_macs_by_loop
from torch import nn

from mmdyn import CostMeter, at_operating_point, operating_points
from mmdyn.methods.spatial import resnet as spatial_resnet
from mmdyn.methods.spatial.resnet import SpatialResNet
from mmdyn.models.resnet import ResNet
from mmdyn.models.stock_weights import load_stock_weights
from mmdyn.operating_point import untrained_operating_points

IMAGE = torch.rand(2, 3, 32, 32)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def trained(depth=8, **arguments):
    """A network whose weights and masks are as training may leave them."""
    model = SpatialResNet(depth, **arguments)
    for name, parameter in model.named_parameters():
        if 'mask_unit' in name:
            nn.init.normal_(parameter, std=0.3)
    return randomize_norms(model).eval()


def test_three_budgets_add_five_percent_to_resnet32():
    """Methods: 5.1 % in the paper; here norms of skip connections included."""
    dense = parameters(ResNet(32))
    added = parameters(SpatialResNet(32)) - dense
    # A block: two norms and a mask unit of 9C + 1 and C + 1, for each budget.
    channels = [(16, 16)] * 5 + [(16, 32)] + [(32, 32)] * 4 + [(32, 64)] + [(64, 64)] * 4
    blocks = sum(4 * planes + 10 * inputs + 2 for inputs, planes in channels)
    assert added == 3 * (blocks + 2 * (32 + 64))
    assert 0.045 < added / dense < 0.055


def test_operating_points():
    model = SpatialResNet(8)
    names = [p.name for p in operating_points(model)]
    assert names == ['budget=0.3', 'budget=0.5', 'budget=0.7', 'dense']
    assert [p.name for p in untrained_operating_points(model)] == ['dense']
    assert model.operating_point.name == 'dense'
    with pytest.raises(ValueError, match="'budget=0.4'.*'budget=0.3'.*'dense'"):
        model.set_operating_point('budget=0.4')


def test_budget_one_is_the_dense_point_and_trained():
    model = SpatialResNet(8, budgets=(0.25, 1))
    assert [p.name for p in operating_points(model)] == ['budget=0.25', 'dense']
    assert untrained_operating_points(model) == ()


@pytest.mark.parametrize('depth', [8, 18, 50])
def test_dense_is_the_stock_network_to_the_bit(depth):
    stock = randomize_norms(ResNet(depth)).eval()
    model = SpatialResNet(depth).eval()
    result = load_stock_weights(model, stock.state_dict())
    assert all('mask_unit' in name for name in result.initial)
    assert torch.equal(outputs_of(model, IMAGE)[0], outputs_of(stock, IMAGE)[0])


@pytest.mark.parametrize('avg_down', [False, True])
def test_dense_checkpoint_fills_the_norms_of_every_budget(avg_down):
    stock = randomize_norms(ResNet(18, avg_down=avg_down)).eval()
    model = SpatialResNet(18, avg_down=avg_down)
    missing = model.load_state_dict(stock.state_dict(), strict=False).missing_keys
    assert missing and all('mask_unit' in key for key in missing)
    # With masks of ones every budget is then the stock network.
    for point in ('budget=0.3', 'budget=0.7'):
        for execution in ('masked', 'sparse'):
            for block in model.masked_blocks().values():
                block.execution = execution
                for unit in (m.mask_unit for m in block.at_budget.values()):
                    nn.init.zeros_(unit.conv.weight)
                    nn.init.zeros_(unit.fc.weight)
                    nn.init.ones_(unit.fc.bias)
                    nn.init.ones_(unit.conv.bias)
            with at_operating_point(model, point):
                got = outputs_of(model, IMAGE)[0]
            torch.testing.assert_close(got, outputs_of(stock, IMAGE)[0])


def test_pretrained_init_cfg_keeps_what_a_trained_checkpoint_has(tmp_path):
    source = trained()
    file = str(tmp_path / 'trained.pth')
    torch.save(dict(state_dict=source.state_dict()), file)
    model = SpatialResNet(8, init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    for key, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


def test_initial_norms_of_budgets_are_the_stock_ones():
    model = SpatialResNet(50)
    model.init_weights()
    for block in model.masked_blocks().values():
        assert block.bn3.weight.abs().max() == 0  # zero_init_residual
        for modules in block.at_budget.values():
            assert torch.equal(modules.bn3.weight, block.bn3.weight)
            # Kaiming's deviation would be 0.47 whatever the channels.
            limit = (9 * block.in_channels) ** -0.5
            assert modules.mask_unit.conv.weight.abs().max() <= limit


def test_checkpoint_of_other_budgets(monkeypatch):
    source = trained(budgets=(0.3, 0.6))
    model = SpatialResNet(8, budgets=(0.3, 0.5)).eval()
    logged = []
    monkeypatch.setattr(
        spatial_resnet,
        'print_log',
        lambda text, **how: logged.append((text, how['level'])),
    )
    missing = model.load_state_dict(source.state_dict(), strict=False)
    ((text, level),) = logged
    assert level == logging.WARNING
    assert 'budgets 0.3, 0.6, this network has 0.3, 0.5' in text
    assert 'in common, 0.3' in text
    assert all('0_5.mask_unit' in key for key in missing.missing_keys)
    assert missing.unexpected_keys == []
    with (
        at_operating_point(source, 'budget=0.3'),
        at_operating_point(model, 'budget=0.3'),
    ):
        assert torch.equal(outputs_of(model, IMAGE)[0], outputs_of(source, IMAGE)[0])
    stock = model.layer1[0].bn1.running_mean
    assert torch.equal(model.layer1[0].at_budget['0_5'].bn1.running_mean, stock)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(depth=20),
        dict(depth=18, mask_stride=3),
        dict(depth=50),
        dict(depth=50, style='caffe', avg_down=True, deep_stem=True),
        dict(
            depth=50,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            contract_dilation=True,
            out_indices=(0, 1, 2, 3),
        ),
    ],
)
@pytest.mark.parametrize('channels_last', [False, True])
def test_sparse_network_agrees_with_the_masked_one(arguments, channels_last):
    model = trained(**arguments, base_channels=16, stem_channels=16)
    image = torch.rand(2, 3, 45, 37)
    if channels_last:
        model.to(memory_format=torch.channels_last)
        image = image.contiguous(memory_format=torch.channels_last)
    with at_operating_point(model, 'budget=0.5'):
        outputs = []
        for execution in ('masked', 'sparse', 'auto'):
            for block in model.masked_blocks().values():
                block.execution = execution
            outputs.append(outputs_of(model, image))
    for masked, sparse, auto in zip(*outputs):
        scale = masked.abs().max().item()  # random weights amplify from block to block
        torch.testing.assert_close(sparse, masked, rtol=0, atol=1e-4 * max(1, scale))
        torch.testing.assert_close(auto, masked, rtol=0, atol=1e-4 * max(1, scale))


def test_measured_cost_is_the_analytic_cost_of_the_masks():
    model = trained(50, base_channels=8, stem_channels=16, execution='sparse')
    image = torch.rand(2, 3, 64, 48)
    shapes, masks = {}, {}
    handles = [
        block.register_forward_pre_hook(
            lambda module, args: shapes.update({module: args[0].shape})
        )
        for block in model.masked_blocks().values()
    ]
    with at_operating_point(model, 'budget=0.3'), torch.no_grad():
        for block in model.masked_blocks().values():
            unit = block.budget_modules.mask_unit
            handles.append(
                unit.register_forward_hook(
                    lambda m, args, out, block=block: masks.update({block: out})
                )
            )
        with CostMeter() as meter:
            model(image)
        branch = sum(
            block_macs_by_loop(block, masks[block], shapes[block]) for block in masks
        )
        statistics = model.forward_statistics()
    for handle in handles:
        handle.remove()
    # The stem and skip connections: what the dense network runs beside the branches.
    with macs_by_formula(model) as whole:
        outputs_of(model, image)
    total = 2 * sum(cost.total for cost in model_costs(model, image))
    beside = whole.macs - total
    units = sum(unit_macs(block, shapes[block]) for block in masks)
    assert meter.macs == branch + beside + units
    assert statistics['executed_share'] == pytest.approx(branch / total)
    assert 0.05 < branch / total < 0.95


def model_costs(model, image):
    with at_operating_point(model, 'budget=0.3'):
        outputs_of(model, image)
        return list(model.block_costs().values())


def unit_macs(block, shape):
    n, channels, height, width = shape
    if block.stride == 1:
        return 10 * channels * n * height * width
    positions = -(-height // block.stride) * -(-width // block.stride)
    return 9 * channels * n * positions + n * channels


@pytest.mark.parametrize('density', [0.0, 1.0])
def test_empty_and_full_masks(density):
    model = trained(8, execution='sparse')
    shape = (2, 3, 17, 9)
    with at_operating_point(model, 'budget=0.3'):
        fixed = []
        for name, block in model.masked_blocks().items():
            side = dict(layer1=(17, 9), layer2=(9, 5), layer3=(5, 3))[name.split('.')[0]]
            fixed.append(FixedMask(block, torch.full((2, 1, *side), density)))
        sparse = outputs_of(model, torch.ones(shape))[0]
        share = model.forward_statistics()['executed_share']
        for block in model.masked_blocks().values():
            block.execution = 'masked'
        masked = outputs_of(model, torch.ones(shape))[0]
    assert share == density
    torch.testing.assert_close(sparse, masked, rtol=0, atol=1e-4)


def test_budget_loss_is_that_of_the_masks():
    model = trained(8).train()
    model.mask_schedule.noise = False
    model.mask_schedule.progress = 1.0
    model.set_operating_point('budget=0.3')
    model(IMAGE)
    costs = model.block_costs().values()
    executed = [c.executed.item() for c in costs]
    total = [c.total for c in costs]
    losses = model.auxiliary_losses()
    network = (sum(executed) / sum(total) - 0.3) ** 2
    blocks = [(e / t - 0.3) ** 2 for e, t in zip(executed, total)]
    expected = network + sum(blocks) / len(blocks)
    assert losses['loss_budget'].item() == pytest.approx(expected, rel=1e-4)
    losses['loss_budget'].backward()
    gradient = model.layer1[0].at_budget['0_3'].mask_unit.conv.weight.grad
    assert gradient.abs().max() > 0
    assert model.layer1[0].at_budget['0_5'].mask_unit.conv.weight.grad is None
    model.release_losses()
    assert model.auxiliary_losses() == {}  # the graph is gone
    copy.deepcopy(model)


def test_frozen_stages_leave_masks_to_be_trained():
    model = SpatialResNet(8, frozen_stages=1, norm_eval=True).train()
    trained_names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert 'layer1.0.conv1.weight' not in trained_names
    assert 'layer1.0.bn1.weight' not in trained_names
    assert 'layer1.0.at_budget.0_3.mask_unit.conv.weight' in trained_names
    assert 'layer1.0.at_budget.0_3.bn1.weight' in trained_names
    modules = model.layer1[0].at_budget['0_3']
    assert modules.mask_unit.training and not modules.bn1.training
    model.set_operating_point('budget=0.3')
    model(IMAGE)
    model.auxiliary_losses()['loss_budget'].backward()
    assert modules.mask_unit.conv.weight.grad.abs().max() > 0
    assert not model.eval().layer1[0].at_budget['0_3'].mask_unit.training


def test_costs_are_those_of_the_latest_pass():
    """Early exits leave later blocks out, or give them a part of the images."""
    model = trained(8, execution='sparse')
    model.set_operating_point('budget=0.3')
    with torch.no_grad():
        x = model.forward_stem(IMAGE)
        x = model.layer1(x)
        first = model.block_costs()['layer1.0']
        assert list(model.block_costs()) == ['layer1.0']
        share = model.forward_statistics()['executed_share']
        assert share == pytest.approx(float(first.share))
        model.layer2(x[:1])
        second = model.block_costs()['layer2.0']
        executed = 2 * first.executed + second.executed
        expected = float(executed) / (2 * first.total + second.total)
        share = model.forward_statistics()['executed_share']
        assert share == pytest.approx(expected)
    model.set_operating_point('dense')
    assert model.forward_statistics() == dict(executed_share=1.0)


@pytest.mark.parametrize('execution', ['masked', 'sparse', 'auto'])
def test_autocast(execution):
    model = trained(8, execution=execution)
    model.set_operating_point('budget=0.5')
    exact = outputs_of(model, IMAGE)[0]
    with torch.autocast('cpu', dtype=torch.bfloat16):
        got = outputs_of(model, IMAGE)[0]
        dense = ResNet(8).eval()
        assert got.dtype == outputs_of(dense, IMAGE)[0].dtype
        x = torch.rand(1, 16, 8, 8)  # a map that is not in half precision
        with torch.no_grad():
            assert torch.isfinite(model.layer1(x)).all()
    # Rounding flips some masks; the rest is close.
    assert (got.float() - exact).abs().median() < 0.05 * exact.abs().max()


@pytest.mark.parametrize(
    'norm_cfg', [dict(type='BN', affine=False), dict(type='IN'), dict(type='SyncBN')]
)
def test_other_norms_build(norm_cfg):
    model = SpatialResNet(8, norm_cfg=norm_cfg, zero_init_residual=False)
    assert model.layer2[0].at_budget['0_3'].downsample_norm.num_features == 32


def test_dense_point_has_no_budget_loss():
    model = SpatialResNet(8, budgets=(0.5, 1.0)).train()
    model.set_operating_point('budget=0.5')
    model(IMAGE)
    model.set_operating_point('dense')
    model(IMAGE)
    assert model.auxiliary_losses() == {}
    assert model.forward_statistics() == dict(executed_share=1.0)


def test_copies_and_pickles_work_on_their_own():
    model = trained(8, execution='sparse')
    with at_operating_point(model, 'budget=0.5'):
        before = outputs_of(model, IMAGE)[0]
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            twin.set_operating_point('budget=0.5')
            assert torch.equal(outputs_of(twin, IMAGE)[0], before)
            nn.init.zeros_(twin.layer3[0].at_budget['0_5'].bn2.weight)
            assert not torch.equal(outputs_of(twin, IMAGE)[0], before)
            twin.mask_schedule.temperature = 3.0
            assert {u.schedule.temperature for u in units(twin)} == {3.0}
        assert torch.equal(outputs_of(model, IMAGE)[0], before)
        assert model.mask_schedule.temperature == 1.0


def units(model):
    blocks = model.masked_blocks().values()
    return [modules.mask_unit for b in blocks for modules in b.at_budget.values()]


def test_inference_mode():
    with torch.inference_mode():
        model = trained(8, execution='sparse')
        model.set_operating_point('budget=0.3')
        assert torch.isfinite(model(IMAGE)[0]).all()


def test_group_norm_computes_every_position():
    arguments = dict(depth=8, norm_cfg=dict(type='GN', num_groups=4))
    with pytest.raises(ValueError, match="execution='sparse' needs batch norms.*'GN'"):
        SpatialResNet(**arguments, execution='sparse')
    model = SpatialResNet(**arguments).eval()
    with at_operating_point(model, 'budget=0.3'), CostMeter() as masked:
        outputs_of(model, IMAGE)
    with CostMeter() as dense:
        outputs_of(model, IMAGE)
    assert masked.macs > dense.macs


def test_onnx_of_an_operating_point(tmp_path):
    model = trained(8)
    with at_operating_point(model, 'budget=0.5'):
        assert_same_in_onnxruntime(model, torch.rand(2, 3, 32, 32), tmp_path, atol=1e-3)


def test_with_cp_gives_the_same_gradients():
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = trained(8, with_cp=with_cp).train()
        model.mask_schedule.noise = False
        model.set_operating_point('budget=0.5')
        model(IMAGE.clone().requires_grad_())[0].sum().backward()
        gradients.append(model.layer2[0].conv1.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(budgets=(0.0, 0.5)),
            r'budgets must be numbers in \(0, 1\], got \(0.0, 0.5',
        ),
        (dict(budgets=(0.5, 1.5)), r'in \(0, 1\], got \(0.5, 1.5'),
        (dict(budgets=()), r'in \(0, 1\], got \(\)'),
        (dict(budgets=0.5), r'in \(0, 1\], got 0.5'),
        (dict(budgets='0.5'), r"in \(0, 1\], got '0.5'"),
        (dict(budgets=(0.3, 0.3)), r'must rise and not repeat, got \(0.3, 0.3\)'),
        (dict(budgets=(0.5, 0.3)), r'must rise and not repeat, got \(0.5, 0.3\)'),
        (dict(budgets=(0.3333331, 0.3333332)), 'must differ in six digits'),
        (dict(budgets=(0.5, 0.9999999)), 'must differ in six digits'),
        (dict(mask_stride=0), 'mask_stride must be a whole number above 0, got 0'),
        (dict(execution='fast'), "execution must be one of .*'sparse'.*got 'fast'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpatialResNet(8, **arguments)
