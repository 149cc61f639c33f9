import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from test_methods.test_multi_exit.test_classifier import SHAPE, config

from mmdyn.methods.multi_exit.distillation import MultiExitDistillation


def kl_by_hand(student, teacher, temperature):
    p, q = ((x.double() / temperature).softmax(dim=1) for x in (teacher, student))
    return temperature**2 * (p * (p.log() - q.log())).sum(dim=1).mean()


LOGITS = [torch.randn(6, 5, generator=torch.Generator().manual_seed(i)) for i in range(4)]
A, B, C, D = LOGITS


@pytest.mark.parametrize(
    'teacher, target',
    [
        ('wed', 0.1 * A + 0.2 * B + 0.3 * C + 0.4 * D),
        ('med', (A + B + C + D) / 4),
        ('ofa', D),
    ],
)
def test_loss_of_each_exit_against_equation_3(teacher, target):
    distillation = MultiExitDistillation(teacher, weight=0.7, temperature=2.0)
    losses = distillation(LOGITS, images=None)
    for loss, logits in zip(losses, LOGITS):
        expected = 0.3 * kl_by_hand(logits, target, 2.0)
        assert float(loss) == pytest.approx(float(expected), abs=1e-6)


def test_no_gradients_reach_the_teacher():
    logits = [each.clone().requires_grad_() for each in LOGITS]
    losses = MultiExitDistillation('ofa')(logits, images=None)
    sum(losses).backward()
    # The last exit is its own teacher, and teaches without being taught.
    assert logits[-1].grad.abs().max() < 1e-7
    assert logits[0].grad.abs().max() > 1e-4


@pytest.fixture
def teacher(mmpretrain_scope):
    torch.manual_seed(1)
    stock = config(type='ImageClassifier')
    for name in ('exits', 'policy', 'data_preprocessor'):
        stock.pop(name)
    return stock, MODELS.build(stock).eval()


def make_model(**distillation):
    return MODELS.build(
        config(distillation=dict(type='mmdyn.MultiExitDistillation', **distillation))
    )


def batch():
    images = torch.randn(4, *SHAPE)
    return images, [DataSample().set_gt_label(i) for i in range(4)]


def test_losses_of_a_model(mmpretrain_scope):
    images, samples = batch()
    taught = make_model(weight=0.9, temperature=1.0)
    plain = MODELS.build(config())
    plain.load_state_dict(taught.state_dict())
    expected = plain.loss(images, samples)
    found = taught.loss(images, samples)
    assert set(found) == set(expected) | {f'exit{i}.loss_distillation' for i in (1, 2, 3)}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], 0.9 * value)
    logits = list(plain.training_logits(images).values())
    target = (logits[0] + 2 * logits[1] + 3 * logits[2]).detach() / 6
    for i, each in enumerate(logits, 1):
        kl = kl_by_hand(each, target, 1.0)
        value = float(found[f'exit{i}.loss_distillation'])
        assert value == pytest.approx(float(0.1 * kl), abs=1e-5)


def test_another_network_as_teacher(tmp_path, teacher):
    settings, network = teacher
    file = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict=network.state_dict()), file)
    model = make_model(teacher='dk', model=settings, checkpoint=file)
    images, samples = batch()
    losses = model.loss(images, samples)
    with torch.no_grad():
        target = network(images, mode='tensor')
    for i, each in model.training_logits(images).items():
        expected = float(0.1 * kl_by_hand(each, target, 1.0))
        name = f'exit{i + 1}.loss_distillation'
        assert float(losses[name]) == pytest.approx(expected, abs=1e-5)
    # The teacher is no part of the student.
    plain = MODELS.build(config())
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(list(model.parameters())) == len(list(plain.parameters()))


def test_weights_of_another_teacher_are_refused(tmp_path, teacher):
    file = str(tmp_path / 'teacher.pth')
    torch.save(dict(state_dict={}), file)
    model = make_model(teacher='dk', model=teacher[0], checkpoint=file)
    with pytest.raises(ValueError, match='the checkpoint does not fit the model'):
        model.loss(*batch())


def test_teacher_of_other_classes(tmp_path, mmpretrain_scope, teacher):
    head = dict(type='LinearClsHead', num_classes=7, in_channels=64)
    settings = {**teacher[0], 'head': head}
    file = str(tmp_path / 'teacher.pth')
    torch.save(MODELS.build(settings).state_dict(), file)
    model = make_model(teacher='dk', model=settings, checkpoint=file)
    with pytest.raises(ValueError, match=r'logits \(4, 7\), the exits \(4, 10\)'):
        model.loss(*batch())


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(teacher='nobody'), "teacher must be one of .*'wed'.*got 'nobody'"),
        (dict(weight=1.1), r'weight must lie in \[0, 1\], got 1.1'),
        (dict(temperature=0), 'temperature must be above 0, got 0'),
        (dict(teacher='dk'), "'dk' needs model and checkpoint"),
        (dict(teacher='dk', model=dict(type='X')), "'dk' needs checkpoint"),
        (dict(checkpoint='x.pth'), "'wed' has no use for checkpoint"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiExitDistillation(**arguments)
