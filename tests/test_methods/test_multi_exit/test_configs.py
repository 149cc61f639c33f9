"""What the configs of configs/multi_exit say beside their metafile; Table II."""

import re

import pytest
import torch
from helpers.configs import build, docstring, load, names, paper, table_rows
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, PARAM_SCHEDULERS

from mmdyn import CostMeter, count_macs, operating_points
from mmdyn.methods.multi_exit.exits import SEBottleneckExit
from mmdyn.methods.multi_exit.training_phases import training_phases
from mmdyn.models.stages import cut_into_stages

NAMES = names('multi_exit')
PAPER = paper('multi_exit')
TABLE_II = [  # backbone, SE-bottlenecks of its branches
    (backbone, levels)
    for backbone, rows in PAPER['table_ii'].items()
    for levels in rows
    if levels != 'plain'
]
ACCURACIES = {
    **PAPER['others'],
    **{
        f'{backbone}_multi-exit-{levels}_{schedule}': row['top1']
        for table, schedule in (('table_ii', '60e_in1k'), ('table_iii', '300e_cifar100'))
        for backbone, rows in PAPER[table].items()
        for levels, row in rows.items()
        if levels != 'plain'
    },
}


@pytest.mark.parametrize('name', ACCURACIES)
def test_docstring_has_the_papers_accuracies(name):
    text = ' '.join(docstring(f'multi_exit/{name}').split())
    exits = len(ACCURACIES[name].split())
    assert f'top-1 {ACCURACIES[name]} % of exits 1 to {exits}' in text


@pytest.mark.parametrize('name', NAMES)
def test_levels_of_the_name(name):
    model = build(name)
    levels = re.search(r'multi-exit-(\d+)', name)
    if levels is None:
        return
    assert all(isinstance(exit, SEBottleneckExit) for exit in model.exits)
    assert ''.join(str(len(exit.blocks) - 1) for exit in model.exits) == levels[1]
    # Behind the last stages but one.
    stages = len(cut_into_stages(model.backbone))
    assert model.exit_stages == tuple(range(stages - len(levels[1]), stages + 1))
    names = [p.name for p in operating_points(model)]
    assert names == [f'exit={i}' for i in range(1, len(levels[1]) + 2)]


@pytest.mark.parametrize('name', [n for n in NAMES if n.endswith(('in1k', 'cifar100'))])
def test_schedule_of_section_v_a(name):
    cfg = load(name)
    epochs = int(re.search(r'_(\d+)e_', name)[1])
    phases = 1
    for hook in map(HOOKS.build, cfg.get('custom_hooks', [])):
        phases = len(training_phases(hook.strategy, num_exits=4)) - hook.first_phase + 1
    assert cfg.train_cfg.max_epochs == epochs * phases
    images = 256 if name.endswith('in1k') else 64
    gpus = 4 if name.endswith('in1k') else 1
    assert cfg.train_dataloader.batch_size * gpus == images
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), cfg.optim_wrapper)
    group = wrapper.param_groups[0]
    assert (group['momentum'], group['weight_decay']) == (0.9, 1e-4)
    rates = []
    configs = cfg.param_scheduler
    schedulers = [
        PARAM_SCHEDULERS.build(dict(c, optimizer=wrapper, convert_to_iter_based=False))
        for c in (configs if isinstance(configs, list) else [configs])
    ]
    for _ in range(cfg.train_cfg.max_epochs):
        rates.append(wrapper.get_lr()['lr'][0])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    for phase in range(phases):
        of_phase = rates[phase * epochs : (phase + 1) * epochs]
        assert of_phase[0] == pytest.approx(0.01, rel=0.02)
        # Half-way down, half of the rate: linear.
        assert of_phase[epochs // 2] == pytest.approx(0.005, rel=0.05)
        assert of_phase[-1] < 0.0003


@torch.no_grad()
def costs_as_the_paper_counts(model, shape):
    """GMACs of f_1 to f_3 and in total, with SE-bottlenecks counted twice."""
    stages = cut_into_stages(model.backbone)
    backbone, costs, branches = CostMeter(), [], 0
    x = torch.zeros(1, *shape, device='meta')
    for number, stage in enumerate(stages, 1):
        with backbone:
            x = stage.forward(x)
        if number not in model.exit_stages[:-1]:
            continue
        exit = model.exits[model.exit_stages.index(number)]
        branch = count_macs(exit, tuple(x.shape[1:]))
        h = exit.blocks[0](x)
        for block in exit.blocks[1:]:
            branch += count_macs(block, tuple(h.shape[1:]))
            h = block(h)
        branches += branch
        costs.append(backbone.macs + branch)
    if hasattr(model.head, 'fc'):
        with backbone:
            model.head(model.neck((x,)))
    return [cost / 1e9 for cost in (*costs, backbone.macs + branches)]


@pytest.mark.parametrize(('backbone', 'levels'), TABLE_II)
def test_costs_of_table_ii(backbone, levels):
    model = build(f'multi_exit/{backbone}_multi-exit-{levels}_60e_in1k')
    found = costs_as_the_paper_counts(model, (3, 224, 224))
    expected = PAPER['table_ii'][backbone][levels]['gmacs']
    assert found == pytest.approx(expected, rel=0.015)
    # The same figures are in the README, with the true costs between.
    network = dict(resnet18='ResNet-18', vgg16bn='VGG-16')[backbone]
    rows = {row[0]: row[1:] for row in table_rows('configs/multi_exit/README.md')}
    _, twice, printed = rows[f'{network} {"+".join(levels)}']
    assert twice == ', '.join(f'{cost:.2f}' for cost in found)
    assert printed == ', '.join(f'{cost:.2f}' for cost in expected)


def test_teachers_and_strategies():
    for teacher in ('wed', 'med', 'ofa', 'dk'):
        model = build(f'multi_exit/resnet18_multi-exit-432-{teacher}_60e_in1k')
        distillation = model.distillation
        assert (distillation.teacher, distillation.weight) == (teacher, 0.9)
        assert distillation.temperature == 1
    for short, strategy in (('bo', 'branches_only'), ('sw', 'stage_wise')):
        cfg = load(f'multi_exit/resnet18_multi-exit-432-{short}_60e_in1k')
        assert cfg.custom_hooks[0].strategy == strategy
        assert cfg.find_unused_parameters
