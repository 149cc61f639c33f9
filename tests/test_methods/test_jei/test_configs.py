"""What the configs of configs/jei say beside their metafile."""

import re

import pytest
import torch
from helpers.configs import build, load, names, paper, table_rows
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, METRICS

from mmdyn import operating_points
from mmdyn.methods.jei.exit_costs import measure_exit_costs

JEI = [name for name in names('jei') if '_jei_' in name]


@pytest.mark.parametrize('name', JEI)
def test_there_is_an_exit_and_a_gate_after_every_layer(name):
    model = build(name)
    arch, depth = re.search(r'(t2t-vit|resnet)-?(\d+)', name).groups()
    layers = {('resnet', '20'): 9, ('resnet', '50'): 16}.get((arch, depth)) or int(depth)
    assert model.exit_stages == tuple(range(1, layers + 1))
    assert len(model.policy.gates) == layers - 1
    classes = {'cifar100': 100, 'cifar100-lt': 100, 'in1k': 1000}
    assert model.num_classes == classes.get(name.split('_')[-1], 10)
    fixed = [f'exit={i}' for i in range(1, layers + 1)]
    names = [p.name for p in operating_points(model)]
    assert names[: len(fixed)] == fixed and len(names) > len(fixed)


@pytest.mark.parametrize('name', JEI)
def test_schedule_of_appendix_9_1_2(name, mmpretrain_scope):
    cfg = load(name)
    epochs = int(re.search(r'_(\d+)e_', name)[1])
    assert cfg.train_cfg.max_epochs == epochs
    (hook,) = map(HOOKS.build, cfg.custom_hooks)
    assert 1 <= hook.warmup_epochs <= epochs / 2
    assert hook.objective.cost_weight == 1
    if 't2t' in name:
        images = 256 if 'svhn' in name else 64
        assert cfg.train_dataloader.batch_size == images
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    assert isinstance(wrapper.optimizer, torch.optim.Adam)
    group = wrapper.param_groups[0]
    assert (group['lr'], group['weight_decay']) == (0.01, 5e-4)
    assert not cfg.get('param_scheduler')
    kinds = [type(METRICS.build(metric)).__name__ for metric in cfg.test_evaluator]
    assert kinds == ['Accuracy', 'UncertaintyReport']


@pytest.mark.parametrize('name', [n for n in JEI if not n.endswith('in1k')])
def test_it_starts_from_the_network_of_another_config(name):
    cfg = load(name)
    start = re.fullmatch(r'work_dirs/(.+)/epoch_(\d+)\.pth', cfg.load_from)
    first = load(f'jei/{start[1]}')
    assert first.train_cfg.max_epochs == int(start[2])
    assert first.model.type == 'ImageClassifier'
    for part in ('backbone', 'head'):
        assert cfg.model[part] == first.model[part]
    assert cfg.train_dataloader == first.train_dataloader


def test_training_validation_and_test_images_differ():
    cfg = load('jei/t2t-vit-7_jei_15e_cifar10')
    assert cfg.train_dataloader.dataset.indices == 45000
    validation = cfg.val_dataloader.dataset
    assert (validation.split, validation.indices) == ('train', -5000)
    cfg = load('jei/resnet20_jei_15e_digits')
    train, validation = (
        cfg[f'{part}_dataloader'].dataset.indices for part in ('train', 'val')
    )
    assert sorted([*train, *validation]) == list(range(1437))
    cfg = load('jei/resnet50_jei_15e_in1k')
    halves = [cfg[f'{part}_dataloader'].dataset.indices for part in ('val', 'test')]
    assert sorted([*halves[0], *halves[1]]) == list(range(50000))


def test_what_comes_on_top_of_a_t2t_vit_is_little():
    """Section 4: less than 0.01 % of the backbone's multiply-adds."""
    model = build('jei/t2t-vit-7_jei_15e_cifar10')
    costs = measure_exit_costs(model, torch.rand(1, 3, 224, 224))
    assert (costs.exits + costs.gates)[-1] < 1e-4 * costs.backbone[-1]


def test_the_readme_has_the_papers_costs():
    rows = table_rows('configs/jei/README.md')
    for network, figures in paper('jei').items():
        title = f'T2T-ViT-{network.split("-")[-1]}, {figures["classes"]} classes'
        (cells,) = (row[1:] for row in rows if row[0] == title)
        first, *_, last = figures['macs']
        assert cells == ('paper', f'{first} M', f'{figures["layer"]} M', f'{last} M')
