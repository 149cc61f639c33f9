import numpy as np
import pytest
import torch
from helpers.configs import paper
from mmpretrain.registry import MODELS

from mmdyn import at_operating_point, count_macs
from mmdyn.methods.jei.exit_costs import measure_exit_costs


def classifier(backbone, width, classes, exits, **settings):
    return MODELS.build(
        dict(
            type='mmdyn.MultiExitClassifier',
            backbone=backbone,
            head=dict(type='LinearClsHead', num_classes=classes, in_channels=width),
            exits=[dict(type='mmdyn.LinearExit', stage=i) for i in range(1, exits)],
            policy=dict(type='mmdyn.LearnedGatePolicy'),
            **settings,
        )
    ).eval()


@pytest.mark.parametrize('arch', ['7', '14'])
def test_costs_of_t2t_vit_are_those_of_the_paper(mmpretrain_scope, arch):
    figures = paper('jei')[f't2t-vit-{arch}']
    width, classes, gate = (figures[key] for key in ('width', 'classes', 'gate'))
    number = len(figures['macs'])
    model = classifier(dict(type='mmdyn.T2TViT', arch=arch), width, classes, number)
    costs = measure_exit_costs(model, torch.rand(1, 3, 224, 224))
    # Their counter adds the operations of norms.
    np.testing.assert_allclose(costs.backbone / 1e6, figures['macs'], rtol=0.02)
    steps = [*range(1, number), number - 1]  # the last exit is the network's own head
    np.testing.assert_array_equal(costs.gates, [gate * step for step in steps])
    products = figures['exit'] - classes  # without biases
    np.testing.assert_array_equal(costs.exits, [products * step for step in steps])
    # Tables: 0.003 % and 0.01 % are added in all.
    added = (costs.exits + costs.gates)[-1] / costs.backbone[-1]
    assert added < (3e-5 if arch == '7' else 1.1e-4)


def test_costs_are_those_of_what_runs_at_each_exit(mmpretrain_scope):
    model = classifier(
        dict(type='mmdyn.ResNet', depth=20, stem_channels=8, base_channels=8),
        32,
        5,
        9,
        cut='block',
        neck=dict(type='GlobalAveragePooling'),
    )
    costs = measure_exit_costs(model, torch.rand(2, 3, 32, 32))
    for exit, total in enumerate(costs.backbone, 1):
        with at_operating_point(model, f'exit={exit}'):
            alone = count_macs(model, (3, 32, 32))
        # There is one exit at a fixed point, and all before it where samples may exit.
        own = (8, 16, 32)[(exit - 1) // 3] * 5 if exit < 9 else 0
        assert total + own == alone
    np.testing.assert_array_equal(
        costs.exits, np.cumsum([40] * 3 + [80] * 3 + [160] * 2 + [0])
    )
    np.testing.assert_array_equal(costs.gates, 51 * np.array([*range(1, 9), 8]))
    np.testing.assert_allclose(costs.normalized, costs.total / costs.total[-1])
    assert costs.normalized[-1] == 1
