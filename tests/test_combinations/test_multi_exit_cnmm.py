"""A mixture of networks as the backbone of a multi-exit classifier."""

import pytest
import torch
from helpers.cnmm_reference import analytic_macs
from helpers.reference import randomize_norms
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdyn import (
    CostMeter,
    OperatingPoint,
    at_operating_point,
    count_macs,
    load_operating_points,
    operating_points,
    set_operating_point,
)
from mmdyn.evaluation.saved_points import points_file, save_operating_points
from mmdyn.methods.cnmm.graph import live_functions
from mmdyn.methods.multi_exit.policies import ConfidencePolicy

SHAPE = (3, 16, 16)


def build(backbone=None, **changes):
    model = dict(
        type='mmdyn.MultiExitClassifier',
        backbone=dict(
            type='mmdyn.CNMM',
            scales=(0, 0, 1, 2, 0, 1, 2, 1, 2),
            channels=(4, 6, 8),
            out_indices=(3, 6, 8),
            **backbone or {},
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=8),
        exits=[
            dict(type='mmdyn.LinearExit', stage=1),
            dict(type='mmdyn.LinearExit', stage=2),
        ],
        data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]),
    )
    model = MODELS.build({**model, **changes})
    randomize_norms(model)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=1)
    if not model.backbone.deterministic:
        torch.nn.init.normal_(model.backbone.gamma, std=1.5)
    return model.eval()


pytestmark = pytest.mark.usefixtures('mmpretrain_scope')


@torch.no_grad()
def logits_at(model, point, images):
    with at_operating_point(model, point):
        return model(images)


def functions_of(model, exit):
    node = model.backbone.out_indices[exit - 1]
    return live_functions(model.backbone.functions, [node])


def head_macs():
    return 5 * 8


@pytest.mark.parametrize('exit', [1, 2, 3])
def test_an_exit_runs_the_functions_that_lead_to_it(exit):
    model, images = build(), torch.rand(3, *SHAPE)
    features = model.backbone(images)[exit - 1].mean((2, 3))
    head = model.head.fc if exit == 3 else model.exits[exit - 1].fc
    found = logits_at(model, f'exit={exit}', images)
    assert torch.allclose(found, head(features), atol=1e-5)
    with at_operating_point(model, f'exit={exit}'):
        expected = analytic_macs(model.backbone, functions_of(model, exit), 16, 16)
        assert count_macs(model, SHAPE) == expected + head_macs()


def test_all_exits_are_trained_on_one_draw():
    model, images = build().train(), torch.rand(4, *SHAPE)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    for norm in model.backbone.norms.values():
        norm.eval()
    torch.manual_seed(3)
    losses = model.loss(images, samples)
    assert set(losses) == {'exit1.loss', 'exit2.loss', 'exit3.loss'}
    torch.manual_seed(3)
    features = model.backbone(images)
    labels = torch.arange(4)
    for exit, head in enumerate([model.exits[0].fc, model.exits[1].fc, model.head.fc]):
        logits = head(features[exit].mean((2, 3)))
        expected = torch.nn.functional.cross_entropy(logits, labels)
        assert torch.allclose(losses[f'exit{exit + 1}.loss'], expected, atol=1e-5)


@pytest.mark.parametrize('training', [False, True])
def test_draws_stay_with_those_who_stay(training):
    """Images that leave take their mixing weights along."""
    model, images = build(dict(samples=1)), torch.rand(30, *SHAPE)
    leaves = [torch.rand(30) < 0.5, torch.rand(30) < 0.5]
    waiting = [torch.arange(30)]

    class Forced(torch.nn.Module):
        operating_points = (OperatingPoint('forced'),)

        def forward(self, logits, exit, point, carried):
            leaving = leaves[exit][waiting[-1]]
            waiting.append(waiting[-1][~leaving])
            return leaving, None

    model.policy = Forced()
    if training:
        model.train()
        for norm in model.backbone.norms.values():
            norm.eval()
    with torch.no_grad():
        torch.manual_seed(7)
        features = model.backbone(images)
        torch.manual_seed(7)
        set_operating_point(model, 'forced')
        logits, exits = model.infer(images)
    heads = [model.exits[0].fc, model.exits[1].fc, model.head.fc]
    assert set(exits.tolist()) == {1, 2, 3}
    for place, exit in enumerate(exits.tolist()):
        expected = heads[exit - 1](features[exit - 1][place].mean((1, 2)))
        assert torch.allclose(logits[place], expected, atol=1e-4)


def test_who_leaves_has_paid_for_what_was_needed():
    model, images = build(), torch.rand(30, *SHAPE)
    everywhere = [logits_at(model, f'exit={exit}', images) for exit in (1, 2, 3)]
    medians = [e.softmax(1).amax(1).median().item() for e in everywhere[:2]]
    model.policy = ConfidencePolicy(3, dict(some=medians))
    meter = CostMeter()
    with at_operating_point(model, 'some'), torch.no_grad(), meter:
        logits, exits = model.infer(images)
    assert set(exits.tolist()) == {1, 2, 3}
    expected_macs = 0
    for place, exit in enumerate(exits.tolist()):
        expected = everywhere[exit - 1][place]
        assert torch.allclose(logits[place], expected, atol=1e-4)
        functions = live_functions(
            model.backbone.functions, model.backbone.out_indices[:exit]
        )
        expected_macs += analytic_macs(model.backbone, functions, 16, 16)
        expected_macs += exit * head_macs()
    assert meter.macs == expected_macs


class TestMonteCarlo:
    @pytest.mark.parametrize('exit', [1, 3])
    def test_class_probabilities_are_averaged(self, exit):
        model, images = build(dict(samples=4)), torch.rand(3, *SHAPE)
        torch.manual_seed(5)
        found = logits_at(model, f'exit={exit}', images).softmax(1)
        torch.manual_seed(5)
        model.backbone.samples = 1
        draws = [logits_at(model, f'exit={exit}', images).softmax(1) for _ in range(4)]
        assert torch.allclose(found, sum(draws) / 4, atol=1e-6)
        assert (draws[0] - draws[1]).abs().max() > 1e-3

    def test_n_draws_cost_n_times_the_expectation(self):
        once = count_macs(build(), SHAPE)
        for samples in (1, 5, 15):  # Table 1
            assert count_macs(build(dict(samples=samples)), SHAPE) == samples * once

    def test_small_probabilities_do_not_vanish(self):
        model = build(dict(samples=3))
        torch.nn.init.normal_(model.head.fc.weight, std=100)
        logits = logits_at(model, 'exit=3', torch.rand(3, *SHAPE))
        assert logits.isfinite().all()
        assert logits.logsumexp(1).tolist() == pytest.approx([0] * 3, abs=1e-4)

    def test_a_policy_is_refused(self):
        policy = dict(type='mmdyn.ConfidencePolicy', thresholds=0.5)
        with pytest.raises(ValueError, match='either samples or a policy'):
            build(dict(samples=2), policy=policy)


class TestFoundPoints:
    def test_pruned_exits(self):
        model, images = build(), torch.rand(2, *SHAPE)
        pruned = model.backbone.pruned_point
        points = [pruned(6, exit=1), pruned(9, exit=2, ranking='mixing_weight')]
        model.offer_points(points)
        assert [p.name for p in operating_points(model)] == [
            'exit=1',
            'exit=2',
            'exit=3',
            'exit=1,keep=6',
            'exit=2,keep=9,ranking=mixing_weight',
        ]
        subnetwork = model.backbone.subnetwork(9, 'mixing_weight', stages=[2])
        assert len(subnetwork.functions) <= 9
        found = logits_at(model, points[1], images)
        expected = model.exits[1](subnetwork(images)[0])
        assert torch.allclose(found, expected, atol=1e-6)
        with at_operating_point(model, points[1]):
            expected = analytic_macs(model.backbone, subnetwork.functions, 16, 16)
            assert count_macs(model, SHAPE) == expected + head_macs()

    def test_they_travel_in_a_file_beside_the_checkpoint(self, tmp_path):
        model, checkpoint = build(), tmp_path / 'epoch_3.pth'
        torch.save(model.state_dict(), checkpoint)
        points = [
            model.backbone.pruned_point(6, exit=1),
            OperatingPoint('exit=2', dict(exit=2)),
        ]
        path = save_operating_points(checkpoint, points, metric='accuracy')
        assert path == points_file(checkpoint) == tmp_path / 'epoch_3.points.json'
        assert load_operating_points(model, checkpoint) == 2
        names = ['exit=1', 'exit=2', 'exit=3', 'exit=1,keep=6']
        assert [p.name for p in operating_points(model)] == names
        assert load_operating_points(model, checkpoint) == 2  # again
        assert [p.name for p in operating_points(model)] == names
        assert load_operating_points(build(), tmp_path / 'epoch_4.pth') == 0

    def test_those_of_other_weights_are_left_out(self, tmp_path):
        model, checkpoint = build(), tmp_path / 'epoch_3.pth'
        torch.save(model.state_dict(), checkpoint)
        save_operating_points(checkpoint, [model.backbone.pruned_point(6, exit=1)])
        torch.save(build().state_dict(), checkpoint)  # trained anew
        with pytest.warns(UserWarning, match='is of other weights than .*epoch_3.pth'):
            assert load_operating_points(model, checkpoint) == 0
        assert model.found_points == ()

    def test_the_ranking_is_part_of_them(self):
        points = [build().backbone.pruned_point(9, exit=3)]
        model = build(dict(ranking='mixing_weight'))
        model.offer_points(points)
        expected = model.backbone.subnetwork(9, 'usage', [3]).functions
        (part,) = model.parts([2], points[0].settings)
        assert part[0].forward.func.__self__.functions == expected

    @pytest.mark.parametrize(
        ('settings', 'message'),
        [
            (dict(exit=4), r'exit must lie in 1…3, got 4'),
            (dict(keep=5), "need the setting 'exit'"),
            (dict(exit=1, keep=0), r'keep must lie in 1…31, got 0'),
            (dict(exit=1, keep=99), r'keep must lie in 1…31, got 99'),
            (dict(exit=1, ranking='size'), "ranking must be one of .*'size'"),
            (dict(exit=1, budget=0.5), "'budget'"),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            build().offer_points([OperatingPoint('new', settings)])

    def test_another_point_of_a_name_is_refused(self):
        with pytest.raises(ValueError, match="another operating point 'exit=1'"):
            build().offer_points([OperatingPoint('exit=1', dict(exit=2))])

    def test_an_exit_without_a_path_is_refused_with_the_reason(self):
        model = build()
        with torch.no_grad():
            model.backbone.gamma.fill_(4)
        model.offer_points([model.backbone.pruned_point(1, exit=3)])
        with pytest.raises(
            ValueError, match=r'keep=1 .* path from the input: .*nodes \(8,\)'
        ):
            set_operating_point(model, 'exit=3,keep=1')
        assert model.operating_point.name == 'exit=3'

    def test_only_a_cnmm_can_be_pruned(self):
        model = build_resnet()
        with pytest.raises(ValueError, match=r"ResNet does not know .*'keep': 3"):
            model.offer_points([OperatingPoint('new', dict(exit=1, keep=3))])


def build_resnet():
    return MODELS.build(
        dict(
            type='mmdyn.MultiExitClassifier',
            backbone=dict(type='mmdyn.ResNet', depth=8),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
            exits=[dict(type='mmdyn.LinearExit', stage=1)],
        )
    )


def test_keep_of_the_backbone_combines_with_exits():
    model = build(dict(keep=(9, 25)))
    names = [p.name for p in operating_points(model)]
    # Exit 1 has 6 functions and exit 2 has 18.
    assert names == ['exit=1', 'exit=2', 'exit=3', 'exit=2,keep=9', 'exit=3,keep=9'] + [
        'exit=3,keep=25'
    ]
    with at_operating_point(model, 'exit=3,keep=9'):
        subnetwork = model.backbone.subnetwork(9, stages=[3])
        expected = analytic_macs(model.backbone, subnetwork.functions, 16, 16)
        assert count_macs(model, SHAPE) == expected + head_macs()


def test_deterministic_sum_has_its_exits_alone():
    model = build(dict(deterministic=True))
    assert [p.name for p in operating_points(model)] == ['exit=1', 'exit=2', 'exit=3']
    with pytest.raises(ValueError, match='no mixing weights to prune by'):
        model.offer_points([OperatingPoint('new', dict(exit=1, keep=5))])
