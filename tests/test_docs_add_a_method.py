"""The page that adds a method: its files are written, trained, tested and checked."""

import importlib
import json
import re
import sys

import pytest
from helpers.paths import CONFIGS, ROOT
from mmengine.config import Config
from mmengine.runner import Runner

from mmdyn.registry import MODELS

PAGE = (ROOT / 'docs' / 'add_a_method.md').read_text()
FILES = dict(re.findall(r'```python\n# slimmable/(\S+)\n(.*?)```', PAGE, re.DOTALL))
# Convolutions of 1, 16, 32 and 64 channels on maps of 32, 16 and 8, and the classifier.
MACS = {
    'width=0.5': 9 * (1 * 8 * 32**2 + 8 * 16 * 16**2 + 16 * 64 * 8**2) + 640,
    'width=1': 9 * (1 * 16 * 32**2 + 16 * 32 * 16**2 + 32 * 64 * 8**2) + 640,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of the page, next to the configs and importable as the page says."""
    (tmp_path / 'configs').symlink_to(CONFIGS)
    folder = tmp_path / 'slimmable'
    folder.mkdir()
    for name, code in FILES.items():
        (folder / name).write_text(code)
    monkeypatch.syspath_prepend(folder)
    yield folder
    MODELS.module_dict.pop('SlimmableNet', None)
    for name in FILES:
        sys.modules.pop(name.removesuffix('.py'), None)


def test_the_page_has_a_method_of_about_60_lines():
    assert list(FILES) == ['slimmable.py', 'slimmable_digits.py', 'test_slimmable.py']
    code = re.sub(r'"""(?s:.*?)"""', '', FILES['slimmable.py'])
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 60


def test_the_page_works(folder, digits):
    cfg = Config.fromfile(folder / 'slimmable_digits.py')
    cfg.merge_from_dict(
        {
            'work_dir': str(folder / 'out'),
            'experiment_name': str(folder).replace('/', '_'),
            'log_level': 'ERROR',
            'default_hooks.logger.interval': 1,
            'train_cfg': dict(max_epochs=2, val_interval=2),
            'param_scheduler.total_steps': 2 * 45,
            'train_dataloader.dataset.data_root': str(digits),
            'val_dataloader.dataset.data_root': str(digits),
            'test_dataloader.dataset.data_root': str(digits),
        }
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    metrics = runner.test()

    report = json.loads((folder / 'out' / 'operating_points.json').read_text())
    points = {point['name']: point for point in report['points']}
    assert {name: p['macs_per_image'] for name, p in points.items()} == MACS
    ratio = MACS['width=0.5'] / MACS['width=1']
    assert points['width=0.5']['cost_ratio'] == pytest.approx(ratio)
    for name in MACS:  # a tenth of the digits by chance
        assert metrics[f'{name}/accuracy/top1'] > 20
    # Each width has trained its own norms, in every second of 90 iterations.
    for layer in runner.model.backbone.layers:
        assert [int(norm.num_batches_tracked) for norm in layer.norms] == [45, 45]

    own_test = importlib.import_module('test_slimmable')
    (mark,) = own_test.test_macs_by_formula.pytestmark
    for arguments in mark.args[1]:
        own_test.test_macs_by_formula(*arguments)
