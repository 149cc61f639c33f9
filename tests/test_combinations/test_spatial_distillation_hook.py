import copy

import pytest
import torch
from helpers.budget_runner import Classifier, make_runner
from torch import nn

from mmdyn.engine.distillation_hook import DistillationHook
from mmdyn.models.losses import distillation_loss


def test_loss_against_the_definition():
    student, teacher = torch.randn(4, 5, 3), torch.randn(4, 5, 3)
    p = (teacher / 3).softmax(dim=1)
    q = (student / 3).softmax(dim=1)
    expected = 9 * (p * (p.log() - q.log())).sum(dim=1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, 3.0), expected)
    assert distillation_loss(teacher, teacher, 3.0).abs() < 1e-6


def hook_of(runner):
    (hook,) = [h for h in runner.hooks if isinstance(h, DistillationHook)]
    return hook


def losses_of_a_step(runner, batch):
    """The loss dict of a training forward pass with the hooks in place."""
    runner.model.train()
    return runner.model(**batch, mode='loss')


def test_own_dense_copy_teaches(tmp_path):
    hooks = [
        dict(type='mmdyn.DistillationHook', temperature=10, weight=0.5),
        dict(type='mmdyn.BudgetScheduleHook', noise_until=0),
    ]
    runner = make_runner(tmp_path, hooks, iters=4, interval=4)
    start = copy.deepcopy(runner.model).eval()
    runner.train()
    hook = hook_of(runner)
    teacher = hook.teacher
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert teacher.backbone.operating_point.name == 'dense'
    for key, tensor in start.state_dict().items():
        assert torch.equal(teacher.state_dict()[key], tensor), key
    assert not torch.equal(teacher.head.fc.weight, runner.model.head.fc.weight)
    saved = torch.load(tmp_path / 'iter_4.pth', weights_only=False)['state_dict']
    assert saved.keys() == runner.model.state_dict().keys()

    batch = next(iter(runner.train_dataloader))
    hook.before_train(runner)
    runner.model.backbone.set_operating_point('budget=0.3')
    losses = losses_of_a_step(runner, batch)
    with torch.no_grad():
        logits = start(batch['inputs'])
    expected = 0.5 * distillation_loss(losses['seen'], logits, 10)
    torch.testing.assert_close(losses['loss_distillation'], expected)
    losses['loss_distillation'].backward()
    assert runner.model.backbone.layer1[0].conv1.weight.grad.abs().max() > 0
    hook.after_train(runner)
    assert 'loss_distillation' not in losses_of_a_step(runner, batch)


def test_budget_weights_apply_to_distillation(tmp_path):
    targets = {'budget=0.3': 1.0, 'budget=0.5': 1.0, 'budget=0.7': 1.0}
    hooks = [  # in the wrong order on purpose
        dict(type='mmdyn.BudgetScheduleHook', awareness='l2', targets=targets),
        dict(type='mmdyn.DistillationHook'),
    ]
    runner = make_runner(tmp_path, hooks, iters=3)
    runner.train()
    budget_hook = next(h for h in runner.hooks if type(h).__name__.startswith('Budget'))
    for hook in (hook_of(runner), budget_hook):
        hook.before_train(runner)
    batch = next(iter(runner.train_dataloader))
    budget_hook.before_train_iter(runner, 0)
    runner.model.backbone.mask_schedule.noise = False
    found = []
    for weight in (1.0, 3.0):
        names = budget_hook.aware.weights
        budget_hook.aware.weights = dict.fromkeys(names, weight)
        runner.model.load_state_dict(copy.deepcopy(hook_of(runner).teacher.state_dict()))
        runner.model.backbone.layer1[0].conv1.weight.data.add_(0.1)
        found.append(losses_of_a_step(runner, batch))
    for name in ('loss_cls', 'loss_distillation'):
        assert found[1][name].item() == pytest.approx(3 * found[0][name].item(), rel=1e-4)
    assert found[1]['loss_budget'].item() == pytest.approx(
        found[0]['loss_budget'].item(), rel=1e-4
    )


def test_resumed_training_has_the_same_teacher(tmp_path):
    hooks = [dict(type='mmdyn.DistillationHook'), dict(type='mmdyn.BudgetScheduleHook')]
    first = make_runner(tmp_path, hooks, iters=3)
    first.train()
    resumed = make_runner(tmp_path, hooks, iters=6, resume=True)
    resumed.train()
    expected = hook_of(first).teacher.state_dict()
    for key, tensor in hook_of(resumed).teacher.state_dict().items():
        assert torch.equal(tensor, expected[key]), key
    (tmp_path / 'distillation_teacher.pth').unlink()
    with pytest.raises(FileNotFoundError, match='weights that training began with'):
        make_runner(tmp_path, hooks, iters=9, resume=True).train()


def test_teacher_from_a_config(tmp_path, monkeypatch):
    from mmengine.registry import MODELS

    MODELS.register_module(name='TinyTeacher', module=Classifier, force=True)
    config = tmp_path / 'teacher.py'
    config.write_text("model = dict(type='TinyTeacher', budgets=(0.5,))\n")
    source = Classifier(budgets=(0.5,)).eval()
    torch.save(source.state_dict(), tmp_path / 'teacher.pth')
    hook = dict(
        type='mmdyn.DistillationHook',
        teacher=str(config),
        checkpoint=str(tmp_path / 'teacher.pth'),
    )
    runner = make_runner(tmp_path, [hook], iters=1)
    runner.train()
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(hook_of(runner).teacher(image), source(image))


class Runner:
    """As much of one as the hook needs."""

    def __init__(self, model, work_dir):
        self.model, self.work_dir, self.iter = model, str(work_dir), 0


class Segmentor(nn.Module):
    """Logits for every pixel, under the names that mmseg gives."""

    def __init__(self):
        super().__init__()
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(3, 4, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.decode_head.conv_seg(inputs)
        return dict(loss_ce=logits.mean()) if mode == 'loss' else logits


def test_dense_prediction(tmp_path):
    """Logits (N, K, H, W): the mean over all pixels."""
    model = Segmentor()
    hook = DistillationHook(student='decode_head.conv_seg', temperature=2)
    hook.before_train(Runner(model, tmp_path))
    before = copy.deepcopy(model)
    nn.init.normal_(model.decode_head.conv_seg.weight)
    images = torch.rand(2, 3, 6, 5)
    losses = model(images, mode='loss')
    expected = distillation_loss(
        model(images).permute(0, 2, 3, 1).reshape(-1, 4),
        before(images).permute(0, 2, 3, 1).reshape(-1, 4),
        2,
    )
    torch.testing.assert_close(losses['loss_distillation'], expected)


class Neck(nn.Module):
    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)])

    def forward(self, x):
        return tuple(level(x) for level in self.levels)


class Detector(nn.Module):
    """A neck of two levels, and a head that a teacher must not run."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 4, 3)
        self.neck = Neck()

    def extract_feat(self, inputs):
        return self.neck(self.backbone(inputs))

    def forward(self, inputs, mode='tensor'):
        assert mode == 'loss', 'a teacher must not run its head'
        return dict(loss_bbox=sum(x.mean() for x in self.extract_feat(inputs)))


def test_maps_of_a_neck(tmp_path):
    """The mean over the elements of a level, then over the levels."""
    model = Detector()
    teacher = copy.deepcopy(model)
    hook = DistillationHook(student='neck', loss='features', weight=0.5)
    hook.before_train(Runner(model, tmp_path))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    images = torch.rand(2, 3, 6, 5)
    losses = model(images, mode='loss')
    means = []
    for level in range(2):
        x = model.neck.levels[level](model.backbone(images))
        y = teacher.neck.levels[level](teacher.backbone(images))
        means.append(((x - y) ** 2).sum() / x.numel())
    expected = 0.5 * (means[0] + means[1]) / 2
    torch.testing.assert_close(losses['loss_distillation'], expected)
    losses['loss_distillation'].backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(teacher='a.py'), "needs a config and a checkpoint.*'a.py'.*None"),
        (dict(checkpoint='a.pth'), 'needs a config and a checkpoint'),
        (dict(loss='boxes'), "loss must be one of .*features.*, got 'boxes'"),
        (dict(temperature=0), 'temperature must be above 0, got 0'),
        (dict(weight=-1), 'weight must be above 0, got -1'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistillationHook(**arguments)


def test_unknown_module(tmp_path):
    hook = dict(type='mmdyn.DistillationHook', student='head.cls')
    with pytest.raises(ValueError, match="has no module 'head.cls'; .*backbone, head"):
        make_runner(tmp_path, [hook]).train()


def test_outputs_of_different_shapes(tmp_path):
    hook = dict(type='mmdyn.DistillationHook', teacher_output='backbone.conv1')
    with pytest.raises(
        ValueError, match=r'gives \(4, 5\), backbone.conv1 of the teacher'
    ):
        make_runner(tmp_path, [hook]).train()
