from types import SimpleNamespace

import pytest
import torch
from helpers.rooms import needs
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdyn.methods.multi_exit.training_phases import TrainingStrategyHook

MODEL = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=8, stem_channels=4, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=16),
    exits=[
        dict(type='mmdyn.SEBottleneckExit', stage=1, level=1),
        dict(type='mmdyn.LinearExit', stage=2),
    ],
    data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]),
)
PARTS = {
    1: ('backbone.conv1', 'backbone.bn1', 'backbone.layer1'),
    2: ('backbone.layer2',),
    3: ('backbone.layer3',),
}
EXITS = {1: 'exits.0', 2: 'exits.1', 3: 'head'}


class Images(torch.utils.data.Dataset):
    metainfo = dict()

    def __len__(self):
        return 24

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 16, 16, generator=generator)
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 3))


class Recorder(TrainingStrategyHook):
    """Keeps the weights before the first iteration and after each one."""

    def before_train(self, runner):
        self.states = [copy_of(runner.model)]
        super().before_train(runner)

    def after_train_iter(self, runner, *_, **__):
        self.states.append(copy_of(runner.model))


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def train(tmp_path, hook, iters=6, accumulate=1, **changes):
    model = MODELS.build({**MODEL, **changes})
    Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Images(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=iters),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01),
            accumulative_counts=accumulate,
        ),
        custom_hooks=[hook],
        log_level='ERROR',
        default_scope='mmpretrain',
    ).train()
    return model


def changed(before, after):
    """First two parts of the names of what training changed: weights and statistics."""
    names = {name for name in before if not torch.equal(before[name], after[name])}
    return {'.'.join(name.split('.')[:2]) for name in names}


def expected(parts, exits):
    names = [name for part in parts for name in PARTS[part]]
    return {n.replace('head', 'head.fc') for n in [*names, *(EXITS[e] for e in exits)]}


@pytest.mark.parametrize(
    'strategy, phases',
    [
        ('cooperative', [expected((1, 2, 3), (1, 2, 3))]),
        ('branches_only', [expected((1, 2, 3), (3,)), expected((), (1, 2))]),
        (
            'stage_wise',
            [expected((1,), (1,)), expected((2,), (2,)), expected((3,), (3,))],
        ),
    ],
)
def test_what_each_phase_trains(tmp_path, mmpretrain_scope, strategy, phases):
    hook = Recorder(strategy)
    train(tmp_path, hook)
    per_phase = 6 // len(phases)
    for i, (before, after) in enumerate(zip(hook.states, hook.states[1:])):
        # Momentum and weight decay would move what has gradients of zero.
        assert changed(before, after) == phases[i // per_phase], i


def test_backbone_from_a_checkpoint(tmp_path, mmpretrain_scope):
    hook = Recorder('branches_only', first_phase=2)
    model = train(tmp_path, hook)
    assert changed(hook.states[0], hook.states[-1]) == expected((), (1, 2))
    assert model.backbone.training  # only its frozen forward passes are in inference mode


def test_gradients_of_a_phase_end_with_it(tmp_path, mmpretrain_scope):
    # Phases change after iteration 3, in the middle of the accumulation of 4 and 5.
    hook = Recorder('branches_only')
    train(tmp_path, hook, accumulate=2)
    of_phase_2 = set().union(
        *(changed(a, b) for a, b in zip(hook.states[3:], hook.states[4:]))
    )
    assert of_phase_2 == expected((), (1, 2))


def test_losses_of_a_frozen_backbone_are_those_of_inference(tmp_path, mmpretrain_scope):
    model = train(tmp_path, Recorder('branches_only', first_phase=2), iters=1)
    image = torch.rand(2, 3, 16, 16)
    samples = [DataSample().set_gt_label(i) for i in (0, 2)]
    losses = model.loss(image, samples)
    assert set(losses) == {'exit1.loss', 'exit2.loss'}
    model.eval()
    with torch.no_grad():
        features = model.backbone.layer2(
            model.backbone.layer1(model.backbone.forward_stem(image))
        )
        logits = model.exits[1](features)
    value = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2]))
    torch.testing.assert_close(losses['exit2.loss'].detach(), value)


def test_refusals(tmp_path, mmpretrain_scope):
    with pytest.raises(ValueError, match="one of .*'stage_wise'.*got 'greedy'"):
        TrainingStrategyHook('greedy')
    with pytest.raises(ValueError, match='first_phase must lie in 1…2, got 3'):
        train(tmp_path, TrainingStrategyHook('branches_only', first_phase=3))
    distillation = dict(type='mmdyn.MultiExitDistillation')
    with pytest.raises(ValueError, match="must be 'cooperative', got 'stage_wise'"):
        train(tmp_path, TrainingStrategyHook('stage_wise'), distillation=distillation)
    plain = {k: v for k, v in MODEL.items() if k != 'exits'}
    runner = SimpleNamespace(model=MODELS.build({**plain, 'type': 'ImageClassifier'}))
    with pytest.raises(ValueError, match='of a MultiExitClassifier, got a ImageCl'):
        TrainingStrategyHook('cooperative').before_train(runner)


@needs('CNMM')
def test_a_mixture_of_networks_has_no_stages(tmp_path, mmpretrain_scope):
    cnmm = dict(
        type='mmdyn.CNMM', scales=(0, 0, 1, 2), channels=(4, 4, 16), out_indices=(1, 2, 3)
    )
    with pytest.raises(ValueError, match='a CNMM has no stages to train one after'):
        train(tmp_path, TrainingStrategyHook('stage_wise'), backbone=cnmm)
