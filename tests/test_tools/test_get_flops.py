import torch
from helpers.reference import macs_by_formula
from helpers.tools import ROOT, TOY_CONFIG, run_tool
from mmengine.config import Config
from mmengine.registry import MODELS

from mmdyn import at_operating_point


def test_macs_of_each_point_by_formula(mmpretrain_scope):
    done = run_tool('tools/analysis_tools/get_flops.py', TOY_CONFIG, '--shape', '32')
    rows = [
        [cell.strip() for cell in line.strip('│ ').split('│')]
        for line in done.stdout.splitlines()
        if line.startswith('│')
    ]
    model = MODELS.build(Config.fromfile(ROOT / TOY_CONFIG).model).eval()
    assert [row[0] for row in rows[:3]] == ['pool=4', 'pool=2', 'dense']
    macs = []
    for name, *_ in rows[:3]:
        point = at_operating_point(model, name)
        with torch.no_grad(), point, macs_by_formula(model) as counter:
            model(torch.rand(1, 1, 32, 32))
        macs.append(counter.macs)
    for (_, printed, cost), expected in zip(rows[:3], macs):
        assert printed == f'{expected / 1e6:.2f}'
        assert cost == f'{expected / macs[2]:.3f}'
    params = sum(p.numel() for p in model.parameters())
    assert f'{params / 1e6:.2f} M' in done.stdout


def test_shape_is_checked():
    done = run_tool(
        'tools/analysis_tools/get_flops.py', TOY_CONFIG, '--shape', '0', check=False
    )
    assert done.returncode == 2 and '--shape takes one or two positive' in done.stderr
