"""Every config of configs/jei builds what its name and metafile say."""

import re

import pytest
import torch
import yaml
from helpers.paths import CONFIGS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, METRICS, MODELS

from mmdyn import count_macs, operating_points
from mmdyn.methods.jei.exit_costs import measure_exit_costs

FOLDER = CONFIGS / 'jei'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
JEI = [name for name in CONFIGS if '_jei_' in name]
META = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
ENTRIES = {entry['Name']: entry for entry in META['Models']}


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


def image_shape(name):
    size = 224 if 't2t' in name or name.endswith('in1k') else 32
    return (1 if 'digits' in name else 3, size, size)


def build(name):
    # Autocast, which the performer layer switches off, is not for meta tensors.
    with torch.device('cpu' if 't2t' in name else 'meta'):
        return MODELS.build(load(name).model).eval()


@pytest.fixture(params=CONFIGS)
def name(request, mmpretrain_scope):
    return request.param


def test_metafile_tells_the_truth(name):
    model = build(name)
    entry = ENTRIES[name]
    assert entry['Config'] == f'configs/jei/{name}.py'
    assert entry['Metadata']['Parameters'] == sum(p.numel() for p in model.parameters())
    assert entry['Metadata']['FLOPs'] == count_macs(model, image_shape(name))
    assert len(ENTRIES) == len(CONFIGS)


@pytest.mark.parametrize('name', JEI)
def test_there_is_an_exit_and_a_gate_after_every_layer(name, mmpretrain_scope):
    model = build(name)
    arch, depth = re.match(r'(t2t-vit|resnet)-?(\d+)', name).groups()
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
    assert hook.cost_weight == 1
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
    first = load(start[1])
    assert first.train_cfg.max_epochs == int(start[2])
    assert first.model.type == 'ImageClassifier'
    for part in ('backbone', 'head'):
        assert cfg.model[part] == first.model[part]
    assert cfg.train_dataloader == first.train_dataloader


def test_training_validation_and_test_images_differ():
    cfg = load('t2t-vit-7_jei_15e_cifar10')
    assert cfg.train_dataloader.dataset.indices == 45000
    validation = cfg.val_dataloader.dataset
    assert (validation.split, validation.indices) == ('train', -5000)
    cfg = load('resnet20_jei_15e_digits')
    train, validation = (
        cfg[f'{part}_dataloader'].dataset.indices for part in ('train', 'val')
    )
    assert sorted([*train, *validation]) == list(range(1437))
    cfg = load('resnet50_jei_15e_in1k')
    halves = [cfg[f'{part}_dataloader'].dataset.indices for part in ('val', 'test')]
    assert sorted([*halves[0], *halves[1]]) == list(range(50000))


def test_what_comes_on_top_of_a_t2t_vit_is_little(mmpretrain_scope):
    """Section 4: less than 0.01 % of the backbone's multiply-adds."""
    model = build('t2t-vit-7_jei_15e_cifar10')
    costs = measure_exit_costs(model, torch.rand(1, 3, 224, 224))
    assert (costs.exits + costs.gates)[-1] < 1e-4 * costs.backbone[-1]
