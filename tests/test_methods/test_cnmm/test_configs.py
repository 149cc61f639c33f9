"""What the configs of configs/cnmm say beside their metafile."""

import pytest
from helpers.configs import build, load, macs, names, paper
from helpers.paths import CONFIGS, ROOT
from helpers.rooms import needs
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

from mmdyn import operating_points

NAMES = names('cnmm')

pytestmark = needs('MultiExitClassifier')


@pytest.mark.parametrize('name', [n for n in NAMES if '200e' in n])
def test_full_size_is_the_papers(name):
    assert macs(name) == pytest.approx(paper('cnmm')['mmacs'] * 1e6, rel=0.03)
    points = [point.name for point in operating_points(build(name))]
    assert points == [f'exit={i}' for i in range(1, 5)]


@pytest.mark.parametrize('name', NAMES)
def test_names_say_how_they_train(name):
    backbone = load(name).model.backbone
    assert backbone.get('sampling', True) == ('expectations' not in name)
    assert backbone.get('deterministic', False) == ('deterministic' in name)


@pytest.mark.parametrize('name', NAMES)
def test_mixing_weights_learn_slowly_and_do_not_decay(name, mmpretrain_scope):
    cfg = load(name)
    model = build(name)
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
    cfg = load(f'cnmm/{name}')
    train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert train.data_prefix == val.data_prefix == 'train'
    assert not set(train['indices']) & set(val['indices'])
    assert cfg.test_dataloader.dataset.data_prefix != 'train'
    steps = -(-len(train['indices']) // cfg.train_dataloader.batch_size)
    assert cfg.param_scheduler[-1]['end'] == cfg.train_cfg.max_epochs * steps


def test_the_documentation_has_the_papers_cost():
    mmacs = paper('cnmm')['mmacs']
    assert f'{mmacs} M MACs' in (CONFIGS / 'cnmm' / 'README.md').read_text()
    assert f'(paper: {mmacs} M)' in (ROOT / 'docs' / 'cnmm.md').read_text()
