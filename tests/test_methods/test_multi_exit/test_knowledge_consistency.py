import copy

import pytest
import torch
from helpers.reference import randomize_norms
from helpers.rooms import needs
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mmdyn import at_operating_point, operating_points

SHAPE = (3, 32, 32)


def classifier(**changes):
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='mmdyn.ResNet', depth=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=64),
        data_preprocessor=dict(mean=[0, 0, 0], std=[2, 2, 2]),
    )
    return {**model, **changes}


def multi_exit(**changes):
    exits = [dict(type='mmdyn.LinearExit', stage=1)]
    return classifier(type='mmdyn.MultiExitClassifier', exits=exits, **changes)


def build(cfg):
    model = MODELS.build(cfg)
    randomize_norms(model)
    return model


def consistency(first, second, **arguments):
    return MODELS.build(
        dict(
            type='mmdyn.KnowledgeConsistency',
            multi_exit=first,
            baseline=second,
            **arguments,
        )
    )


@pytest.fixture
def networks(mmpretrain_scope):
    return build(multi_exit()), build(classifier())


@pytest.fixture
def images():
    return torch.randn(6, *SHAPE)


def stages_by_hand(network, images):
    """Features behind each stage: the modules called one after the other."""
    backbone, features = network.backbone, []
    x = torch.relu(backbone.bn1(backbone.conv1(images)))
    for layer in (backbone.layer1, backbone.layer2, backbone.layer3):
        x = layer(x)
        features.append(x)
    return features


def classified_by_hand(network, x, layers):
    for name in layers:
        x = getattr(network.backbone, name)(x)
    return network.head.fc(x.mean((2, 3)))


def set_to_identity(conv):
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(conv.bias)


@torch.no_grad()
def test_the_same_backbone_is_reproduced_by_the_identity(networks, images):
    exits, plain = networks
    exits.backbone.load_state_dict(plain.backbone.state_dict())
    model = consistency(exits, plain).eval()
    for name in ('stage1_n0', 'stage2_n0'):
        set_to_identity(model.reconstructions[name][0])
    expected = plain(images, mode='tensor')
    for point in ('stage=1,layers=0', 'stage=2,layers=0', 'dense'):
        with at_operating_point(model, point):
            torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
            samples = model(images, [DataSample() for _ in images], mode='predict')
        labels = torch.cat([sample.pred_label for sample in samples])
        assert labels.tolist() == expected.argmax(1).tolist()
    losses = model(images, mode='loss')
    assert losses['loss_stage1_n0'] == 0 and losses['loss_stage2_n0'] == 0


@torch.no_grad()
def test_the_rest_of_the_baseline_runs_on_what_is_reconstructed(networks, images):
    exits, plain = networks
    model = consistency(exits, plain, layers=(0, 2)).eval()
    names = [point.name for point in operating_points(model)]
    assert names == [
        *(f'stage={i},layers={n}' for i in (1, 2) for n in (0, 2)),
        'dense',
    ]
    features = stages_by_hand(exits, images)
    for i, rest in ((1, ['layer2', 'layer3']), (2, ['layer3'])):
        linear, *others = model.reconstructions[f'stage{i}_n2']
        x = linear(features[i - 1])
        assert len(others) == 2
        for block in others:
            x = torch.relu(block.bn(block.conv(x)))
        with at_operating_point(model, f'stage={i},layers=2'):
            got = model(images)
        torch.testing.assert_close(got, classified_by_hand(plain, x, rest))
        with at_operating_point(model, f'stage={i},layers=0'):
            assert not torch.allclose(model(images), got)


def test_losses_are_mean_squared_errors(networks, images):
    exits, plain = networks
    model = consistency(exits, plain, layers=(0, 1)).train()
    losses = model(images, mode='loss')
    ours, theirs = (stages_by_hand(network, images) for network in networks)
    assert list(losses) == [f'loss_stage{i}_n{n}' for i in (1, 2) for n in (0, 1)]
    for i in (1, 2):
        linear = model.reconstructions[f'stage{i}_n0'][0](ours[i - 1])
        errors = (linear - theirs[i - 1]) ** 2
        expected = errors.sum() / errors.numel()
        torch.testing.assert_close(losses[f'loss_stage{i}_n0'], expected)

        first, second = model.reconstructions[f'stage{i}_n1']
        x = second.conv(first(ours[i - 1]))
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (
            x.var((0, 2, 3), unbiased=False, keepdim=True) + second.bn.eps
        ).sqrt()
        error = (x.relu() - theirs[i - 1]).square().mean()  # the norm's γ = 1, β = 0
        torch.testing.assert_close(losses[f'loss_stage{i}_n1'], error)


def test_training_changes_the_reconstructions_alone(networks, images):
    model = consistency(*networks, layers=(0, 1))
    model.train()
    frozen = [copy.deepcopy(network.state_dict()) for network in networks]
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert all(name.startswith('reconstructions.') for name in model.state_dict())
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    batch = dict(inputs=images, data_samples=[DataSample() for _ in images])
    totals = [model.train_step(batch, optimizer)['loss'].item() for _ in range(5)]
    assert totals == sorted(totals, reverse=True) and totals[-1] < totals[0]
    for network, state in zip(networks, frozen):
        assert not network.training
        parts = (network.backbone, network.head)
        assert not any(module.training for part in parts for module in part.modules())
        for name, value in network.state_dict().items():
            assert torch.equal(value, state[name]), name
    unchanged = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    assert unchanged == []


def test_frozen_networks_are_cast_along(networks, images):
    model = consistency(*networks, layers=[0]).double().eval()
    assert {p.dtype for n in networks for p in n.parameters()} == {torch.float64}
    with torch.no_grad(), at_operating_point(model, 'stage=1,layers=0'):
        assert model(images.double()).dtype == torch.float64


def test_the_same_preprocessing_for_both(networks, images):
    model = consistency(*networks, layers=[0]).eval()
    data = dict(inputs=images, data_samples=[DataSample() for _ in images])
    (alone, together) = networks[1].test_step(data), model.test_step(data)
    for a, b in zip(alone, together):
        torch.testing.assert_close(a.pred_score, b.pred_score)


def test_from_configs_and_checkpoints(networks, images, tmp_path):
    files = [str(tmp_path / f'{i}.pth') for i in (0, 1)]
    for network, file in zip(networks, files):
        torch.save(dict(state_dict=network.state_dict()), file)
    checkpoints = dict(multi_exit_checkpoint=files[0], baseline_checkpoint=files[1])
    # As with a runner, which has the preprocessor of the config apart from the model.
    preprocessor = dict(data_preprocessor=dict(mean=[0, 0, 0], std=[2, 2, 2]))
    model = consistency(multi_exit(), classifier(), **checkpoints, **preprocessor)
    model.init_weights()
    expected = consistency(*networks)
    expected.load_state_dict(model.state_dict())
    assert model.data_preprocessor.std.tolist() == [[[2]], [[2]], [[2]]]
    for point in operating_points(model):
        with at_operating_point(model, point), at_operating_point(expected, point):
            got, wanted = (m.eval()(images) for m in (model, expected))
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def deep(backbone, channels):
    """Changes for another backbone than the small ResNet."""
    head = dict(type='LinearClsHead', num_classes=10, in_channels=channels)
    return dict(backbone=backbone, head=head)


def test_channels_may_differ(mmpretrain_scope, images):
    sizes = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    wide = deep(dict(type='ResNet_CIFAR', depth=18, **sizes), 256)
    exits, plain = build(multi_exit()), build(classifier(**wide))
    model = consistency(exits, plain, layers=[1]).eval()
    ours, theirs = (stages_by_hand(network, images) for network in (exits, plain))
    for i, channels in ((1, 64), (2, 128)):
        found = model.reconstructions[f'stage{i}_n1'](ours[i - 1])
        assert found.shape == theirs[i - 1].shape
        assert found.shape[1] == channels
        with torch.no_grad(), at_operating_point(model, f'stage={i},layers=1'):
            assert model(images).shape == (6, 10)


@pytest.mark.parametrize(
    ('backbone', 'channels', 'message'),
    [
        (
            dict(type='ResNet', depth=18),
            512,
            r'3 of strides \[1, 2, 4\], baseline: 4 of strides \[4, 8, 16, 32\]',
        ),
        (
            dict(type='mmdyn.ResNet', depth=8, strides=(1, 2, 1)),
            64,
            r'3 of strides \[1, 2, 4\], baseline: 3 of strides \[1, 2, 2\]',
        ),
    ],
)
def test_other_stages_are_refused(mmpretrain_scope, backbone, channels, message):
    plain = build(classifier(**deep(backbone, channels)))
    with pytest.raises(ValueError, match=message):
        consistency(build(multi_exit()), plain)


def cnmm(**changes):
    backbone = dict(type='mmdyn.CNMM', scales=(0, 1, 2), channels=(4, 8, 16))
    head = dict(type='LinearClsHead', num_classes=10, in_channels=16)
    return classifier(
        backbone={**backbone, 'out_indices': (0, 1, 2)}, head=head, **changes
    )


@needs('CNMM')
def test_a_mixture_of_networks_has_features_but_cannot_take_any(mmpretrain_scope, images):
    exits = [dict(type='mmdyn.LinearExit', stage=1)]
    mixture = build(cnmm(type='mmdyn.MultiExitClassifier', exits=exits))
    with pytest.raises(ValueError, match='pass on more than their features'):
        consistency(mixture, build(cnmm()))
    plain = build(classifier())
    model = consistency(mixture, plain, layers=[0])
    with torch.no_grad():
        losses = model(images, mode='loss')
        features = mixture.backbone(images)[1]
    linear = model.reconstructions['stage2_n0'][0]
    error = (linear(features) - stages_by_hand(plain, images)[1]).square().mean()
    torch.testing.assert_close(losses['loss_stage2_n0'], error)


@pytest.mark.parametrize(
    ('first', 'second', 'arguments', 'message'),
    [
        (classifier(), classifier(), {}, 'multi_exit must be an mmdyn.MultiExitClass'),
        (
            multi_exit(),
            classifier(data_preprocessor=dict(mean=[1, 0, 0], std=[2, 2, 2])),
            {},
            r"alike; multi_exit: {'mean': \[0, 0, 0\].*baseline: {'mean': \[1, 0, 0\]",
        ),
        (multi_exit(), classifier(), dict(layers=[]), 'different numbers from 0 on'),
        (multi_exit(), classifier(), dict(layers=[1, 1]), r'got \(1, 1\)'),
        (multi_exit(), classifier(), dict(layers=[-1]), r'got \(-1,\)'),
        (
            multi_exit(),
            classifier(),
            dict(baseline_checkpoint='x.pth'),
            "baseline needs either .* got ImageClassifier and 'x.pth'",
        ),
    ],
)
def test_refusals(mmpretrain_scope, first, second, arguments, message):
    with pytest.raises(ValueError, match=message):
        consistency(build(first), build(second), **arguments)


def test_a_config_needs_a_checkpoint(mmpretrain_scope):
    with pytest.raises(ValueError, match='multi_exit needs either a config and multi_'):
        consistency(multi_exit(), build(classifier()))
