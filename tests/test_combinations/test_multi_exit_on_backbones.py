"""Multi-exit classifiers on every kind of backbone."""

import pytest
import torch
from helpers.configs import paper
from helpers.reference import macs_by_formula, randomize_norms
from helpers.rooms import existing, needs
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdyn import at_operating_point, count_macs, operating_points
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.methods.multi_exit.training_phases import training_phases
from mmdyn.models.stages import cut_into_stages

ALL = {
    'ResNetMoD': dict(type='mmdyn.ResNetMoD', depth=18),
    'SpatialResNet': dict(
        type='mmdyn.SpatialResNet', depth=14, budgets=(0.5,), execution='masked'
    ),
    'VGG': dict(type='VGG', depth=11, norm_cfg=dict(type='BN')),
    'VGGMoD': dict(type='mmdyn.VGGMoD', depth=16),
    'MobileNetV2': dict(type='MobileNetV2'),
    'MobileNetV2MoD': dict(type='mmdyn.MobileNetV2MoD'),
    'DenseNet': dict(
        type='DenseNet', arch=dict(growth_rate=8, depths=[2, 2, 3], init_channels=16)
    ),
    'DenseNetCIFAR': dict(type='mmdyn.DenseNetCIFAR', depth=16),
    'GoogLeNetCIFAR': dict(type='mmdyn.GoogLeNetCIFAR'),
    'MSDNet': dict(type='mmdyn.MSDNet', stem='cifar', num_blocks=4, base=2, step=2),
}
BACKBONES = existing(ALL)

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


def build(backbone, stages, levels, num_classes=10):
    channels = cut_into_stages(MODELS.build(backbone))[-1].out_channels
    return MODELS.build(
        dict(
            type='mmdyn.MultiExitClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', num_classes=num_classes, in_channels=channels
            ),
            exits=[
                dict(type='mmdyn.SEBottleneckExit', stage=stage, level=level)
                for stage, level in zip(stages, levels)
            ],
            policy=dict(type='mmdyn.ConfidencePolicy', thresholds=0.5),
            data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]),
        )
    ).eval()


@torch.no_grad()
def part_ways(model, images):
    """Spread logits out, and set thresholds at which one image leaves at each exit."""
    thresholds, waiting = [], torch.ones(len(images), dtype=torch.bool)
    for exit, branch in enumerate(model.exits, start=1):
        points = [p for p in operating_points(model) if p.name.startswith(f'exit={exit}')]
        with at_operating_point(model, points[-1]):  # with SpatialResNet, the dense one
            logits = model(images)
            mean, spread = logits.mean(0), logits.std(0).mean() + 1e-6
            branch.fc.weight /= spread
            branch.fc.bias.sub_(mean).div_(spread)
            confidence = model(images).softmax(1).amax(1)
        low, high = confidence[waiting].sort().values[-2:].tolist()
        thresholds.append((low + high) / 2)
        waiting &= confidence < thresholds[-1]
    model.policy = ConfidencePolicy(model.num_exits, thresholds)


@pytest.mark.parametrize('name', BACKBONES)
def test_batches_agree_with_single_images_at_every_point(name):
    model = randomize_norms(build(BACKBONES[name], stages=(1, 2), levels=(1, 0)))
    size = 16 if name == 'GoogLeNetCIFAR' else 32  # it is the slowest
    images = torch.randn(6, 3, size, size) * torch.linspace(0.5, 3, 6).view(6, 1, 1, 1)
    part_ways(model, images)
    parted = []
    for point in operating_points(model):
        with torch.no_grad(), at_operating_point(model, point):
            logits, exits = model.infer(images)
            singles = [model.infer(image[None]) for image in images]
        assert exits.tolist() == [exit.item() for _, exit in singles], point
        expected = torch.cat([each for each, _ in singles])
        torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)
        if point.name.startswith('adaptive'):
            parted.append(sorted(exits.tolist()))
    assert parted[-1] == [1, 2, 3, 3, 3, 3]


# Lin et al., Tables II and III: GMACs to the end of exits of so many SE-bottlenecks.
PAPER = paper('multi_exit')
NETWORKS = {
    'VGG-16': (
        dict(type='VGG', depth=16),
        (2, 3, 4),
        (3, 224, 224),
        PAPER['table_ii']['vgg16bn'],
        ('432',),
    ),
    'DenseNet-40-12': (
        dict(type='mmdyn.DenseNetCIFAR', stem_channels=24),
        (1, 2),
        (3, 32, 32),
        PAPER['table_iii']['densenet40'],
        ('13', '31'),
    ),
    'GoogLeNet': (
        dict(type='mmdyn.GoogLeNetCIFAR'),
        (1, 2),
        (3, 32, 32),
        PAPER['table_iii']['googlenet'],
        ('13', '31'),
    ),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_macs_of_the_papers_branches(name):
    """The tables count some SE-bottlenecks twice; see the tests of the exits alone."""
    backbone, stages, shape, table, rows = NETWORKS[name]
    for row in rows:
        levels, expected = map(int, row), table[row]['gmacs']
        model = build(backbone, stages, levels, 1000 if shape[1] == 224 else 100)
        for exit, (branch, gmacs) in enumerate(zip(model.exits, expected), start=1):
            at_exit = at_operating_point(model, f'exit={exit}')
            with macs_by_formula(branch.blocks[1:]) as blocks, at_exit:
                ours = count_macs(model, shape) / 1e9
            assert ours - 0.005 < gmacs < ours + blocks.macs / 1e9 + 0.005


@needs('SpatialResNet')
@pytest.mark.parametrize('phase, trained', [(0, (1,)), (1, (2,)), (2, (3,))])
def test_budget_of_the_stage_in_training(phase, trained):
    backbone = dict(BACKBONES['SpatialResNet'], budgets=(0.2,))
    model = build(backbone, (1, 2), (1, 1)).train()
    model.backbone.set_operating_point('budget=0.2')
    images = torch.rand(4, 3, 32, 32)
    model.loss(images, samples_of(4))  # all blocks have costs, of a whole pass
    model.training_phase = training_phases('stage_wise', 3)[phase]
    model.loss(images, samples_of(4))
    blocks = model.backbone.masked_blocks()
    ran = {name for name, block in blocks.items() if block.cost is not None}
    assert {name.split('.')[0] for name in ran} == {
        f'layer{i}' for i in range(1, phase + 2)
    }
    loss = model.backbone.auxiliary_losses()['loss_budget']
    loss.backward()
    reached = {
        name.split('.')[0]
        for name, p in model.backbone.named_parameters()
        if p.grad is not None and 'mask' in name
    }
    assert reached == {f'layer{i}' for i in trained}


def samples_of(number):
    return [DataSample().set_gt_label(i) for i in range(number)]
