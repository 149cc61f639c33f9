"""Every config of configs/cnmm builds the network that its name and metafile say."""

import pytest
import torch
import yaml
from helpers.paths import CONFIGS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS

from mmdyn import count_macs, operating_points

FOLDER = CONFIGS / 'cnmm'
CONFIGS = sorted(path.stem for path in FOLDER.glob('*.py'))
META = yaml.safe_load((FOLDER / 'metafile.yml').read_text())
ENTRIES = {entry['Name']: entry for entry in META['Models']}


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


@pytest.fixture(params=CONFIGS)
def name(request, mmpretrain_scope):
    return request.param


def test_metafile_tells_the_truth(name):
    with torch.device('meta'):
        model = MODELS.build(load(name).model).eval()
    shape = (1 if 'digits' in name else 3, 32, 32)
    entry = ENTRIES[name]
    assert entry['Config'] == f'configs/cnmm/{name}.py'
    assert entry['Metadata']['Parameters'] == sum(p.numel() for p in model.parameters())
    assert entry['Metadata']['FLOPs'] == count_macs(model, shape)
    assert len(ENTRIES) == len(CONFIGS)


@pytest.mark.parametrize('name', [n for n in CONFIGS if '200e' in n])
def test_full_size_is_the_papers(name, mmpretrain_scope):
    model = MODELS.build(load(name).model)
    assert count_macs(model, (3, 32, 32)) == pytest.approx(93e6, rel=0.03)
    assert [p.name for p in operating_points(model)] == [f'exit={i}' for i in range(1, 5)]


def test_names_say_how_they_train(name):
    backbone = load(name).model.backbone
    assert backbone.get('sampling', True) == ('expectations' not in name)
    assert backbone.get('deterministic', False) == ('deterministic' in name)


def test_mixing_weights_learn_slowly_and_do_not_decay(name, mmpretrain_scope):
    cfg = load(name)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    schedulers = cfg.param_scheduler
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        PARAM_SCHEDULERS.build({**scheduler, 'optimizer': wrapper})
    gamma = getattr(model.backbone, 'gamma', None)
    for group in wrapper.param_groups:
        others = 0 if group['params'][0] is gamma else 1
        assert (group['weight_decay'] > 0) == others
        rate = group['lr'] / wrapper.param_groups[-1]['lr']
        assert rate == pytest.approx(1 if others else 0.1)


@pytest.mark.parametrize('name', ['cnmm_15e_digits', 'cnmm_15e_cifar10-folder'])
def test_points_are_not_searched_on_images_trained_on(name):
    cfg = load(name)
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert train.data_prefix == val.data_prefix == 'train'
    assert not set(train['indices']) & set(val['indices'])
    assert cfg.test_dataloader.dataset.data_prefix != 'train'
    steps = -(-len(train['indices']) // cfg.train_dataloader.batch_size)
    assert cfg.param_scheduler[-1]['end'] == cfg.train_cfg.max_epochs * steps


def test_points_of_the_full_size_model_are_searched_on_the_images_left_out():
    for classes in (10, 100):
        cfg = load(f'cnmm_200e_cifar{classes}')
        assert cfg.train_dataloader.dataset['indices'] == 45000
        assert cfg.val_dataloader.dataset['indices'] == -5000
        assert cfg.val_dataloader.dataset.split == 'train'
