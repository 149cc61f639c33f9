import copy

import pytest
import torch
from helpers.reference import macs_by_formula, randomize_norms
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmdyn import (
    CostMeter,
    OperatingPoint,
    at_operating_point,
    count_macs,
    dense_operating_point,
    operating_points,
)
from mmdyn.methods.multi_exit.policies import ConfidencePolicy
from mmdyn.models.stages import cut_into_stages

SHAPE = (3, 32, 32)
THRESHOLDS = dict(quick=0.5, careful=0.9)


def config(**changes):
    model = dict(
        type='mmdyn.MultiExitClassifier',
        backbone=dict(type='mmdyn.ResNet', depth=14),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
        exits=[
            dict(type='mmdyn.SEBottleneckExit', stage=1, level=2),
            dict(type='mmdyn.LinearExit', stage=2),
        ],
        policy=dict(type='mmdyn.ConfidencePolicy', thresholds=THRESHOLDS),
        data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]),
    )
    model.update(changes)
    return model


@pytest.fixture
def model(mmpretrain_scope):
    model = MODELS.build(config())
    model.init_weights()
    # Norms as after training, and logits spread out enough for samples to part ways.
    randomize_norms(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(40, *SHAPE) * torch.rand(40, 1, 1, 1) * 3


@torch.no_grad()
def stages_and_exits_by_hand(model, image):
    """Logits of every exit for one image: each module called one after the other."""
    backbone = model.backbone
    x = torch.relu(backbone.bn1(backbone.conv1(image[None])))
    first = backbone.layer1(x)
    second = backbone.layer2(first)
    last = backbone.layer3(second)
    return [
        model.exits[0](first)[0],
        model.exits[1](second)[0],
        model.head.fc(last.mean((2, 3)))[0],
    ]


def test_points(model):
    names = [p.name for p in operating_points(model)]
    assert names == ['exit=1', 'exit=2', 'exit=3', 'quick', 'careful']
    assert dense_operating_point(model).name == 'exit=3'
    assert model.operating_point.name == 'exit=3'


@pytest.mark.parametrize('exit', [1, 2, 3])
def test_fixed_exits_against_modules_by_hand(model, images, exit):
    with torch.no_grad(), at_operating_point(model, f'exit={exit}'):
        logits, exits = model.infer(images)
    assert exits.tolist() == [exit] * len(images)
    for image, got in zip(images, logits):
        expected = stages_and_exits_by_hand(model, image)[exit - 1]
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def between(values):
    """A number halfway between the two middle ones, so that rounding decides nothing."""
    values = sorted(values)
    middle = len(values) // 2
    return (values[middle - 1] + values[middle]) / 2


def test_thresholds_against_one_image_at_a_time(model, images):
    by_hand = [stages_and_exits_by_hand(model, image) for image in images]
    confidence = [[v.softmax(0).max().item() for v in logits] for logits in by_hand]
    first = between([c[0] for c in confidence])
    second = between([c[1] for c in confidence if c[0] < first])
    model.policy = ConfidencePolicy(3, dict(halves=(first, second)))
    with torch.no_grad(), at_operating_point(model, 'halves'):
        logits, exits = model.infer(images)
    expected = [1 if c[0] >= first else 2 if c[1] >= second else 3 for c in confidence]
    assert exits.tolist() == expected
    assert [expected.count(exit) for exit in (1, 2, 3)] == [20, 10, 10]
    for got, hand, exit in zip(logits, by_hand, expected):
        torch.testing.assert_close(got, hand[exit - 1], rtol=1e-4, atol=1e-4)


def forced(model, wanted):
    """Have each sample, known by its first pixel, leave at a wanted exit."""

    class Forced(nn.Module):
        operating_points = (OperatingPoint('forced'),)

        def forward(self, logits, exit, point, carried):
            waiting = [w for w in wanted if w > exit]
            assert len(waiting) == len(logits), 'a sample that left is still there'
            return torch.tensor([w == exit + 1 for w in waiting]), None

    model.policy = Forced()
    return model


def macs_of_parts(model):
    """MACs of one image through each stage and each exit, by formula."""
    parts, x = [], torch.rand(1, *SHAPE)
    with torch.no_grad():
        for i, stage in enumerate(cut_into_stages(model.backbone)):
            with macs_by_formula(model) as stage_counter:
                x = stage.forward(x)
            with macs_by_formula(model) as exit_counter:
                model.logits_at(i, x)
            parts.append((stage_counter.macs, exit_counter.macs))
    return parts


def test_macs_of_fixed_exits_are_stages_plus_that_exit(model):
    parts = macs_of_parts(model)
    for exit in (1, 2, 3):
        expected = sum(stage for stage, _ in parts[:exit]) + parts[exit - 1][1]
        with at_operating_point(model, f'exit={exit}'):
            assert count_macs(model, SHAPE) == expected


@pytest.mark.parametrize(
    'wanted',
    [[1, 2, 3, 3, 1, 2], [1] * 4, [2] * 4, [3] * 4, [1, 3, 1, 3], [3], [2, 1]],
)
def test_macs_of_a_batch_are_the_sum_over_its_samples(model, wanted):
    parts = macs_of_parts(model)
    expected = sum(stage + exit for w in wanted for stage, exit in parts[:w])
    forced(model, wanted)
    with torch.no_grad(), CostMeter() as meter, at_operating_point(model, 'forced'):
        _, exits = model.infer(torch.rand(len(wanted), *SHAPE))
    assert exits.tolist() == wanted
    assert meter.macs == expected


def test_no_stage_runs_when_no_samples_remain(model):
    ran = []
    for name in ('layer2', 'layer3'):
        getattr(model.backbone, name).register_forward_hook(
            lambda *_, name=name: ran.append(name)
        )
    forced(model, [1, 1])
    with torch.no_grad(), at_operating_point(model, 'forced'):
        model(torch.rand(2, *SHAPE))
    assert ran == []
    with torch.no_grad(), at_operating_point(model, 'exit=2'):
        model(torch.rand(2, *SHAPE))
    assert ran == ['layer2']


def test_memory_format_is_kept_for_those_who_stay(model):
    formats = []
    model.backbone.layer2.register_forward_pre_hook(
        lambda _, x: formats.append(x[0].is_contiguous(memory_format=torch.channels_last))
    )
    forced(model.to(memory_format=torch.channels_last), [1, 2, 3, 1])
    images = torch.rand(4, *SHAPE).to(memory_format=torch.channels_last)
    with torch.no_grad(), at_operating_point(model, 'forced'):
        model(images)
    assert formats == [True]


def test_loss_is_the_sum_over_exits(model, images):
    labels = torch.arange(40) % 10
    samples = [DataSample().set_gt_label(label) for label in labels]
    losses = model.loss(images, samples)
    assert sorted(losses) == ['exit1.loss', 'exit2.loss', 'exit3.loss']
    for i in range(3):
        logits = torch.stack([stages_and_exits_by_hand(model, x)[i] for x in images])
        expected = nn.functional.cross_entropy(logits, labels)
        torch.testing.assert_close(losses[f'exit{i + 1}.loss'], expected)
    model.train()
    total, _ = model.parse_losses(model.loss(images, samples))
    total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_predictions_name_their_exit(model, images):
    data = dict(inputs=images, data_samples=[DataSample() for _ in images])
    forced(model, [1, 2, 3, 1] * 10)
    with torch.no_grad(), at_operating_point(model, 'forced'):
        predictions = model.test_step(data)
        logits, exits = model.infer(images)
    assert [p.exit_index for p in predictions] == exits.tolist() == [1, 2, 3, 1] * 10
    for prediction, scores in zip(predictions, logits):
        torch.testing.assert_close(prediction.pred_score, scores.softmax(0))


def test_stock_classifier_checkpoint_fills_backbone_neck_and_head(mmpretrain_scope):
    stock = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=18),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
        )
    )
    randomize_norms(stock).eval()
    for backbone in ('mmdyn.ResNet', 'ResNet'):
        model = MODELS.build(
            config(
                backbone=dict(type=backbone, depth=18),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
            )
        ).eval()
        keys = model.load_state_dict(stock.state_dict(), strict=False)
        assert not keys.unexpected_keys
        assert {key.split('.')[0] for key in keys.missing_keys} == {'exits'}
        image = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(model(image), stock(image))


def test_is_a_stock_classifier_and_survives_deepcopy(model, images):
    assert isinstance(model, ImageClassifier)
    other = copy.deepcopy(model)
    nn.init.zeros_(other.backbone.conv1.weight)
    with torch.no_grad():
        assert not torch.allclose(other(images), model(images))


def test_exit_behind_a_later_stage_only(mmpretrain_scope):
    model = MODELS.build(
        config(exits=[dict(type='mmdyn.LinearExit', stage=2)], policy=None)
    )
    assert [p.name for p in operating_points(model)] == ['exit=1', 'exit=2']
    with torch.no_grad(), at_operating_point(model, 'exit=1'):
        assert model.eval()(torch.rand(2, *SHAPE)).shape == (2, 10)


def test_exits_of_levels(mmpretrain_scope):
    # Of VGG's five stages the first has none (section III-A).
    model = MODELS.build(
        config(
            backbone=dict(type='VGG', depth=11, num_classes=10),
            neck=None,
            head=dict(type='ClsHead'),
            exits=dict(type='mmdyn.SEBottleneckExit', levels=(3, 2, 1), se=False),
            policy=None,
        )
    )
    assert model.exit_stages == (2, 3, 4, 5)
    assert [len(exit.blocks) - 1 for exit in model.exits] == [3, 2, 1]
    assert [exit.fc.out_features for exit in model.exits] == [10, 10, 10]
    assert not any('scale' in name for name, _ in model.exits.named_modules())


def linear_exits(*stages):
    return [dict(type='mmdyn.LinearExit', stage=stage) for stage in stages]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            dict(exits=linear_exits(2, 1)),
            r'\[2, 1\]',
        ),
        (
            dict(exits=linear_exits(1, 1)),
            r'\[1, 1\]',
        ),
        (dict(exits=linear_exits(3)), r"rising 'stage' in 1…2.*\[3\]"),
        (dict(exits=linear_exits(0)), r'\[0\]'),
        (dict(exits=[dict(type='mmdyn.LinearExit')]), r'\[None\]'),
        (dict(exits=[]), 'at least one exit'),
        (
            dict(exits=dict(type='mmdyn.SEBottleneckExit', levels=(3, 2, 1))),
            r'at most 2 behind the 3 stages of this backbone, got \(3, 2, 1\)',
        ),
        (dict(exits=dict(type='mmdyn.SEBottleneckExit', level=2)), 'got None'),
        (dict(exits=[dict(stage=1)]), 'exits need the type of an exit.*got None'),
        (
            dict(exits=[dict(type='mmdyn.LinearExit', stage=1, num_classes=7)]),
            'need the 10 classes of the head, got 7',
        ),
        (dict(head=dict(type='ClsHead')), 'head with num_classes.*got ClsHead'),
        (dict(exits=[dict(type='LinearClsHead', stage=1)], policy=None), 'LinearClsHead'),
        (dict(policy=dict(type='mmdyn.ConfidencePolicy', thresholds=(0.5,))), 'need 2'),
        (
            dict(policy=dict(type='mmdyn.ConfidencePolicy', thresholds={'exit=1': 0.5})),
            'same name',
        ),
    ],
)
def test_refusals(mmpretrain_scope, changes, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(config(**changes))


def test_typos_are_not_swallowed(mmpretrain_scope):
    with pytest.raises(TypeError, match='exit'):
        MODELS.build(config(exit=[]))
