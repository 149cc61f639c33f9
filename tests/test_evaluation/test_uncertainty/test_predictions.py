import numpy as np
import pytest
import torch
from helpers.rooms import needs
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdyn import OperatingPoint, at_operating_point, operating_points
from mmdyn.evaluation.uncertainty.predictions import predictions_at_points

HEAD = dict(
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=16),
    data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]),
)
RESNET = dict(type='mmdyn.ResNet', depth=8, stem_channels=4, base_channels=4)
SPATIAL = dict(
    type='mmdyn.SpatialResNet',
    depth=8,
    stem_channels=4,
    base_channels=4,
    budgets=(0.3, 0.7),
    norm_cfg=dict(type='BN'),
)
EXITS = [dict(type='mmdyn.LinearExit', stage=stage) for stage in (1, 2)]


def gated(backbone):
    return dict(
        type='mmdyn.MultiExitClassifier',
        backbone=backbone,
        exits=EXITS,
        policy=dict(type='mmdyn.LearnedGatePolicy', thresholds=dict(gates=0.5, low=0.1)),
        **HEAD,
    )


CASES = dict(
    gates=(gated(RESNET), 5),
    spatial=(gated(SPATIAL), 15),  # three budgets, the dense one included
    budgets=(dict(type='ImageClassifier', backbone=SPATIAL, **HEAD), 3),
    static=(dict(type='ImageClassifier', backbone=RESNET, **HEAD), 1),
)


def batches(sizes=(7, 5), labels=1):
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        samples = [
            DataSample().set_gt_label([(i + k) % 5 for k in range(labels)])
            for i in range(size)
        ]
        offsets = 3 * torch.randn(size, 3, 1, 1, generator=generator)
        noise = torch.randn(size, 3, 16, 16, generator=generator)
        yield dict(inputs=offsets + noise, data_samples=samples)


def spread(model):
    """Have images leave at all exits."""
    if hasattr(model, 'exits'):
        from mmdyn.methods.jei.gates import uncertainty_statistics

        x = torch.cat([batch['inputs'] for batch in batches()])
        with torch.no_grad():
            for exit in model.exits:
                exit.fc.weight.normal_()
            for gate, logits in zip(model.policy.gates, model.logits_of_exits(x)):
                statistics = uncertainty_statistics(logits)
                gate.weight *= 3 / (statistics @ gate.weight[0]).std()
                gate.bias.copy_(-1 - (statistics @ gate.weight[0]).mean())
    return model


@pytest.mark.parametrize(
    'name',
    [
        pytest.param('gates', marks=needs('LearnedGatePolicy')),
        pytest.param('spatial', marks=needs('LearnedGatePolicy', 'SpatialResNet')),
        pytest.param('budgets', marks=needs('SpatialResNet')),
        'static',
    ],
)
def test_predictions_are_those_of_real_runs(name, mmpretrain_scope):
    config, number = CASES[name]
    model = spread(MODELS.build(config).eval())
    points = operating_points(model)
    assert len(points) == number
    if name == 'gates':
        model.offer_points([OperatingPoint('found', dict(thresholds=[0.5, 0.6]))])
        points = operating_points(model)
    found = predictions_at_points(model, points, list(batches()))
    assert list(found) == list(points)
    left = set()
    for point, (logarithms, labels, exits) in found.items():
        expected, leaving = [], []
        for batch in batches():
            with at_operating_point(model, point), torch.no_grad():
                for sample in model.predict(batch['inputs'], batch['data_samples']):
                    expected.append(sample.pred_score)
                    leaving.append(sample.get('exit_index', 1))
        if len(logarithms) == 1:
            assert not exits.any()
        else:
            np.testing.assert_array_equal(exits + 1, leaving)
            left |= set(leaving)
        chosen = np.exp(logarithms[exits, np.arange(12)])
        np.testing.assert_allclose(chosen, torch.stack(expected), atol=1e-5)
        assert labels.tolist() == [*range(5), 0, 1, *range(5)]
    if name == 'gates':
        assert left == {1, 2, 3}


def test_images_with_several_labels_are_refused(mmpretrain_scope):
    model = MODELS.build(CASES['static'][0]).eval()
    with pytest.raises(ValueError, match='one label an image'):
        predictions_at_points(model, operating_points(model), batches(labels=2))
    with pytest.raises(ValueError, match='no images to calibrate on'):
        predictions_at_points(model, operating_points(model), [])
