import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmdyn.methods.jei.objective import gate_targets
from mmdyn.methods.jei.schedule_hook import JEIScheduleHook

pytestmark = pytest.mark.usefixtures('mmpretrain_scope')

MODEL = dict(
    type='mmdyn.MultiExitClassifier',
    backbone=dict(type='mmdyn.ResNet', depth=8, stem_channels=4, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=16),
    exits=[
        dict(type='mmdyn.LinearExit', stage=1),
        dict(type='mmdyn.LinearExit', stage=2),
    ],
    policy=dict(type='mmdyn.LearnedGatePolicy'),
    data_preprocessor=dict(mean=[0, 0, 0], std=[1, 1, 1]),
)
EPOCH = 6  # iterations


class Images(torch.utils.data.Dataset):
    metainfo = dict()

    def __init__(self, number, first=0):
        self.number, self.first = number, first

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        index += self.first
        generator = torch.Generator().manual_seed(index)
        image = torch.rand(3, 16, 16, generator=generator) + index % 3
        return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 3))


class Recorder(JEIScheduleHook):
    """Keeps phases, and weights before the first iteration and after each one."""

    def before_train(self, runner):
        self.states, self.phases = [copy_of(runner.model)], []
        super().before_train(runner)

    def before_train_iter(self, runner, *args, **kwargs):
        super().before_train_iter(runner, *args, **kwargs)
        self.phases.append(runner.model.objective.phase)

    def after_train_iter(self, runner, *_, **__):
        self.states.append(copy_of(runner.model))


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def loader(images, batch_size):
    return dict(
        batch_size=batch_size,
        num_workers=0,
        dataset=images,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )


def runner_of(tmp_path, hook, epochs=4, validate=True, model=MODEL, **arguments):
    validation = dict(
        val_dataloader=loader(Images(15, first=100), 4),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy'),
    )
    optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.01, weight_decay=5e-4))
    torch.manual_seed(0)  # gates have weights from the beginning
    return Runner(
        model=MODELS.build(model),
        work_dir=str(tmp_path),
        train_dataloader=loader(Images(4 * EPOCH), 4),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=99),
        custom_hooks=[hook],
        log_level='ERROR',
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        **(validation if validate else {}),
        **{'optim_wrapper': optim_wrapper, **arguments},
    )


def changes(hook):
    """Which parts of the model each iteration changed."""
    # These are set at the beginning of an epoch.
    names = set(hook.states[0]) - {'policy.class_weights'}
    return [
        {name.split('.')[0] for name in names if not new[name].equal(old[name])}
        for old, new in zip(hook.states, hook.states[1:])
    ]


WITH_NORMS = dict(MODEL, exits=dict(type='mmdyn.SEBottleneckExit', levels=(2, 1)))


@pytest.mark.parametrize('model', [MODEL, WITH_NORMS])
def test_phases_alternate_and_touch_only_what_they_should(tmp_path, model):
    hook = Recorder(1.0, warmup_epochs=1, bi_switch=4)
    runner_of(tmp_path, hook, model=model).train()
    turns = ['gate'] * 4 + ['classifier'] * 4 + ['gate'] * 4 + ['classifier'] * 4
    assert hook.phases == ['warmup'] * EPOCH + turns + ['gate'] * 2
    trained = dict(warmup={'exits'}, classifier={'exits'}, gate={'policy'})
    assert changes(hook) == [trained[phase] for phase in hook.phases]


def test_gates_alone_after_the_warm_up(tmp_path):
    hook = Recorder(1.0, warmup_epochs=1, bi_switch=4, fixed_exits=True)
    runner_of(tmp_path, hook, epochs=2, model=WITH_NORMS).train()
    assert changes(hook) == [{'exits'}] * EPOCH + [{'policy'}] * EPOCH


def test_end_to_end_trains_everything_but_gates_in_between(tmp_path):
    hook = Recorder(1.0, warmup_epochs=1, bi_switch=9, end_to_end=(2, 1))
    runner_of(tmp_path, hook, epochs=6).train()
    first = ['gate'] * 9 + ['classifier'] * 3
    second = ['classifier'] * 6  # turns go on where the backbone's epoch cut in
    assert hook.phases == (
        ['warmup'] * EPOCH + first + ['backbone'] * EPOCH + second + ['gate'] * 6
    )
    whole = {'backbone', 'exits', 'head'}
    trained = dict(
        warmup={'exits'}, classifier={'exits'}, gate={'policy'}, backbone=whole
    )
    assert changes(hook) == [trained[phase] for phase in hook.phases]


def test_the_full_gradient_touches_exits_alone_but_moves_them_elsewhere(tmp_path):
    ends = []
    for full_gradient in (False, True):
        hook = Recorder(1.0, bi_switch=1, full_gradient=full_gradient)
        runner_of(tmp_path, hook, epochs=2).train()
        assert changes(hook)[EPOCH + 1] == {'exits'}
        ends.append(hook.states[-1]['exits.0.fc.weight'])
    assert not torch.allclose(*ends)


def test_gates_are_balanced_on_validation_data(tmp_path):
    hook = Recorder(1.0, warmup_epochs=1, bi_switch=100, balance_gates=True)
    runner = runner_of(tmp_path, hook, epochs=2)
    runner.train()
    model = runner.model.eval()
    model.load_state_dict(hook.states[EPOCH])  # as they were when the gates began
    images = Images(15, first=100)
    batch = [images[i] for i in range(15)]
    with torch.no_grad():
        logits = model.logits_of_exits(torch.stack([each['inputs'] for each in batch]))
    labels = torch.cat([each['data_samples'].gt_label for each in batch])
    errors = model.objective.errors(logits, labels)
    targets = gate_targets(model.objective.leaving_costs(errors))
    for gate, (stay, leave) in enumerate(hook.states[-1]['policy.class_weights']):
        opened = int(targets[gate].sum())
        if opened in (0, 15):
            assert (stay, leave) == (1, 1)
        else:
            assert stay.item() == pytest.approx(15 / (2 * (15 - opened)))
            assert leave.item() == pytest.approx(15 / (2 * opened))
    assert any(0 < targets[gate].sum() < 15 for gate in range(2))


@pytest.mark.parametrize('epochs', [2, 3])
def test_a_resumed_training_is_the_same(tmp_path, epochs):
    def hook():
        return Recorder(0.5, warmup_epochs=1, bi_switch=4, balance_gates=True)

    whole = hook()
    runner_of(tmp_path / 'whole', whole).train()
    saved = runner_of(tmp_path / 'part', hook())
    saved.train_loop._max_epochs = epochs
    saved.train_loop._max_iters = epochs * EPOCH
    saved.train()
    checkpoint = tmp_path / 'part' / f'epoch_{epochs}.pth'
    resumed = hook()
    runner_of(tmp_path / 'rest', resumed, load_from=str(checkpoint), resume=True).train()
    assert resumed.phases == whole.phases[epochs * EPOCH :]
    for name, value in whole.states[-1].items():
        assert torch.equal(resumed.states[-1][name], value), name


def test_training_in_iterations_has_the_same_phases(tmp_path):
    by_iter = dict(by_epoch=False, max_iters=4 * EPOCH, val_interval=99)
    hook = Recorder(1.0, warmup_epochs=1, bi_switch=4)
    runner = runner_of(tmp_path, hook)
    runner._train_loop = by_iter
    runner.train()
    turns = ['gate'] * 4 + ['classifier'] * 4 + ['gate'] * 4 + ['classifier'] * 4
    assert hook.phases == ['warmup'] * EPOCH + turns + ['gate'] * 2


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(cost_weight=-0.1), r'cost_weight \(λ\) must be 0 or more, got -0.1'),
        (dict(cost_weight=float('nan')), 'cost_weight'),
        (dict(cost_weight=1, bi_switch=0), 'bi_switch must be a whole number above 0'),
        (dict(cost_weight=1, warmup_epochs=0), 'warmup_epochs'),
        (dict(cost_weight=1, gate_targets='first'), "exit_if_min.*got 'first'"),
        (dict(cost_weight=1, end_to_end=(2,)), 'two numbers of epochs'),
        (dict(cost_weight=1, fixed_exits=True, full_gradient=True), 'fixed_exits'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        JEIScheduleHook(**arguments)


def accumulating(count):
    optimizer = dict(type='Adam', lr=0.01)
    return dict(optimizer=optimizer, accumulative_counts=count)


def test_turns_hold_whole_updates(tmp_path):
    hook = Recorder(1.0, warmup_epochs=1, bi_switch=2)
    runner_of(tmp_path, hook, epochs=2, optim_wrapper=accumulating(2)).train()
    steps = [set(), {'exits'}] * 3 + [
        set(),
        {'policy'},
        set(),
        {'exits'},
        set(),
        {'policy'},
    ]
    assert changes(hook) == steps


@pytest.mark.parametrize('bi_switch, count', [(3, 2), (4, 4)])
def test_turns_that_would_lose_gradients_are_refused(tmp_path, bi_switch, count):
    hook = JEIScheduleHook(1.0, warmup_epochs=1, bi_switch=bi_switch)
    runner = runner_of(tmp_path, hook, optim_wrapper=accumulating(count))
    message = (
        f'accumulative_counts={count}.*bi_switch={bi_switch} and a warm-up of 6 iter'
    )
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_momentum_of_the_warm_up_moves_no_exit_afterwards(tmp_path):
    """An exit that no sample takes has no gradient, and stays as it is."""

    class NoSampleExits(Recorder):
        def before_train_iter(self, runner, *args, **kwargs):
            super().before_train_iter(runner, *args, **kwargs)
            if self.phases[-1] == 'classifier':
                with torch.no_grad():
                    for gate in runner.model.policy.gates:
                        gate.bias.fill_(-1e4)

    hook = NoSampleExits(1.0, warmup_epochs=1, bi_switch=2)
    wrapper = dict(optimizer=dict(type='Adam', lr=0.01))
    runner_of(tmp_path, hook, epochs=2, optim_wrapper=wrapper).train()
    assert hook.phases[EPOCH + 2 : EPOCH + 4] == ['classifier'] * 2
    for name in ('exits.0.fc.weight', 'exits.1.fc.weight'):
        assert torch.equal(hook.states[EPOCH + 4][name], hook.states[EPOCH][name])


def test_models_without_gates_are_refused(tmp_path):
    model = {**MODEL, 'policy': dict(type='mmdyn.ConfidencePolicy', thresholds=0.5)}
    runner = runner_of(tmp_path, JEIScheduleHook(1.0), model=model)
    with pytest.raises(ValueError, match='LearnedGatePolicy.*ConfidencePolicy'):
        runner.train()


def test_validation_data_is_needed(tmp_path):
    hook = JEIScheduleHook(1.0, balance_gates=True)
    runner = runner_of(tmp_path, hook, validate=False)
    with pytest.raises(ValueError, match='balanced on validation data'):
        runner.train()


def test_gates_that_are_not_balanced_need_no_validation_data(tmp_path):
    hook = Recorder(1.0, bi_switch=4)
    runner_of(tmp_path, hook, epochs=2, validate=False).train()
    assert (hook.states[-1]['policy.class_weights'] == 1).all()
    assert changes(hook) == [{'exits'}] * EPOCH + [{'policy'}] * 4 + [{'exits'}] * 2


def test_a_warm_up_without_end_is_refused(tmp_path):
    runner = runner_of(tmp_path, JEIScheduleHook(1.0, warmup_epochs=4))
    with pytest.raises(ValueError, match='warmup_epochs=4 are all of the training'):
        runner.train()
