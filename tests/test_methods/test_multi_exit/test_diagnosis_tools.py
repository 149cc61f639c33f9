"""Where samples leave, and what exits do to a backbone, through the command line."""

import csv
import shutil
import statistics

import pytest
import torch
from helpers.tools import CONFIG, ROOT, run_tool, small
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from PIL import Image

from mmdyn import OperatingPoint, at_operating_point, operating_points
from mmdyn.evaluation.saved_points import save_operating_points
from mmdyn.utils.checkpoints import load_checkpoint_strictly

EXITS = 'tools/analysis_tools/exit_statistics.py'
CONSISTENCY = 'tools/analysis_tools/knowledge_consistency.py'


# The test data are sorted by class.
PLACES = list(range(0, 360, 3))


def options(digits):
    """Options for a third of the test data, from all classes."""
    places = str(PLACES).replace(' ', '')
    return [*small(digits), f'test_dataloader.dataset.indices={places}']


@pytest.fixture(scope='module')
def checkpoint(trained, tmp_path_factory):
    """A copy of the small training's checkpoint, to save points beside."""
    folder = tmp_path_factory.mktemp('exits')
    return shutil.copy(trained / 'epoch_1.pth', folder / 'multi_exit.pth')


def config():
    cfg = Config.fromfile(ROOT / CONFIG)
    cfg.model.update(data_preprocessor=cfg.data_preprocessor)
    cfg.model.backbone.depth = 8
    return cfg


@pytest.fixture
def model(checkpoint, mmpretrain_scope):
    model = MODELS.build(config().model)
    load_checkpoint_strictly(model, str(checkpoint))
    return model.eval()


@pytest.fixture
def held_out(digits, mmpretrain_scope):
    loader = config().test_dataloader
    loader.dataset.update(data_root=str(digits), indices=PLACES)
    loader.collate_fn = dict(type='default_collate')
    return list(Runner.build_dataloader(loader))


@torch.no_grad()
def predict(model, held_out):
    """Labels, then predicted labels and the confidence in them, one by one."""
    found = [sample for data in held_out for sample in model.test_step(data)]
    return (
        [int(sample.gt_label) for sample in found],
        [int(sample.pred_label) for sample in found],
        [float(sample.pred_score.max()) for sample in found],
    )


def middle(values):
    """A number halfway between the two middle ones, so that rounding decides nothing."""
    values = sorted(values)
    place = len(values) // 2
    return (values[place - 1] + values[place]) / 2


def rows_of(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


def percent(right):
    return 100 * sum(right) / len(right) if right else None


def number(cell):
    return float(cell) if cell else None


def test_exit_statistics(checkpoint, model, held_out, digits, tmp_path):
    by_exit = []
    for exit in (1, 2, 3):
        with at_operating_point(model, f'exit={exit}'):
            labels, predicted, confidence = predict(model, held_out)
        by_exit.append((predicted, confidence))
    # Half of the samples leave at exit 1, and no sample at exit 2.
    first = middle(by_exit[0][1])
    halves = OperatingPoint('halves', dict(thresholds=(first, 1.0)))
    save_operating_points(checkpoint, [halves], config=CONFIG)
    arguments = ('--points', 'halves', 'exit=2', '--work-dir', tmp_path)
    done = run_tool(EXITS, CONFIG, checkpoint, *arguments, *options(digits))

    exits = [1 if confidence >= first else 3 for confidence in by_exit[0][1]]
    right = [by_exit[e - 1][0][i] == labels[i] for i, e in enumerate(exits)]
    rows = rows_of(tmp_path / 'exit_statistics.csv')
    assert [row['point'] for row in rows] == ['halves'] * 10 + ['exit=2'] * 10
    for c, row in enumerate(rows[:10]):
        places = [i for i, label in enumerate(labels) if label == c]
        assert (row['class'], row['name']) == (str(c), str(c))
        assert int(row['samples']) == len(places)
        accuracy = percent([right[i] for i in places])
        assert number(row['accuracy_percent']) == pytest.approx(accuracy)
        for exit in (1, 2, 3):
            own = [right[i] for i in places if exits[i] == exit]
            assert int(row[f'exit{exit}_samples']) == len(own)
            share = 100 * len(own) / len(places)
            assert number(row[f'exit{exit}_share_percent']) == pytest.approx(share)
            own = percent(own)
            assert number(row[f'exit{exit}_accuracy_percent']) == pytest.approx(own)
    for c, row in enumerate(rows[10:]):
        of_class = [p == c for p, y in zip(by_exit[1][0], labels) if y == c]
        assert row['exit2_samples'] == row['samples'] == str(len(of_class))
        assert number(row['accuracy_percent']) == pytest.approx(percent(of_class))

    printed = [' '.join(line.split('│')).split() for line in done.stdout.splitlines()]
    own = percent([r for r, e in zip(right, exits) if e == 1])
    assert ['halves', '1', '60', '50.00', f'{own:.2f}'] in printed
    assert ['halves', '2', '0', '0.00', '–'] in printed
    assert ['halves', 'all', '120', '100.00', f'{percent(right):.2f}'] in printed
    second = percent([p == y for p, y in zip(by_exit[1][0], labels)])
    assert ['exit=2', '2', '120', '100.00', f'{second:.2f}'] in printed
    with Image.open(tmp_path / 'exit_statistics.png') as picture:
        assert picture.size == (1600, 1280)


def test_all_points_of_the_policy_by_default(trained, digits, tmp_path):
    arguments = (trained / 'epoch_1.pth', '--work-dir', tmp_path, *small(digits))
    run_tool(EXITS, CONFIG, *arguments)
    rows = rows_of(tmp_path / 'exit_statistics.csv')
    points = dict.fromkeys(row['point'] for row in rows)
    assert list(points) == ['quick', 'balanced', 'careful']
    # The first 40 digits are 36 zeros and 4 ones.
    samples = [row['samples'] for row in rows]
    assert samples == ['36', '4', *['0'] * 8] * 3
    assert rows[2]['accuracy_percent'] == rows[2]['exit1_share_percent'] == ''


@pytest.mark.parametrize(
    ('arguments', 'changes', 'message'),
    [
        (['--point', 'nix'], [], "unknown operating points ['nix']; valid ones: ['exit="),
        ([], ['model.policy=None'], 'name it with --points'),
        ([], ['test_dataloader=None'], 'exit statistics need test_dataloader in'),
    ],
)
def test_refusals(trained, digits, tmp_path, arguments, changes, message):
    arguments = (*arguments, '--work-dir', tmp_path, *small(digits), *changes)
    done = run_tool(EXITS, CONFIG, trained / 'epoch_1.pth', *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.fixture(scope='module')
def baseline(checkpoint, tmp_path_factory):
    """Config and checkpoint of a plain network with the multi-exit network's weights."""
    folder = tmp_path_factory.mktemp('baseline')
    cfg = config()
    plain = {key: cfg.model[key] for key in ('backbone', 'neck', 'head')}
    settings = dict(
        default_scope='mmpretrain',
        data_preprocessor=cfg.data_preprocessor,
        model=dict(type='ImageClassifier', **plain),
    )
    file = folder / 'baseline.py'
    Config(settings).dump(file)
    weights = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    weights = {k: v for k, v in weights.items() if not k.startswith('exits.')}
    torch.save(weights, folder / 'baseline.pth')
    return file, folder / 'baseline.pth'


def test_a_model_without_exits(baseline, digits, tmp_path):
    file, weights = baseline
    settings = {**Config.fromfile(file).model.to_dict(), '_delete_': True}
    text = f'_base_ = {str(ROOT / CONFIG)!r}\nmodel = {settings!r}\n'
    (tmp_path / 'config.py').write_text(text)
    arguments = ('--work-dir', tmp_path, *small(digits))
    done = run_tool(EXITS, tmp_path / 'config.py', weights, *arguments, check=False)
    assert done.returncode != 0
    assert 'need an mmdyn.MultiExitClassifier, got a ImageClassifier' in done.stderr


def test_knowledge_consistency(checkpoint, baseline, model, held_out, digits, tmp_path):
    arguments = ('--epochs', 4, '--layers', 0, 2, '--seeds', 2, '--work-dir', tmp_path)
    networks = (CONFIG, checkpoint, *baseline)
    done = run_tool(CONSISTENCY, *networks, *arguments, *options(digits))
    rows = rows_of(tmp_path / 'knowledge_consistency.csv')
    places = [(row['stage'], row['layers']) for row in rows]
    assert places == [('1', '0'), ('1', '2'), ('2', '0'), ('2', '2')]

    labels, predicted, _ = predict(model, held_out)  # at the last exit: the plain network
    plain = percent([p == y for p, y in zip(predicted, labels)])
    plain_model = MODELS.build(config_of_baseline(baseline[0]))
    load_checkpoint_strictly(plain_model, str(baseline[1]))
    learned = MODELS.build(
        dict(
            type='mmdyn.KnowledgeConsistency',
            multi_exit=model,
            baseline=plain_model,
            layers=(0, 2),
        )
    )
    saved = [tmp_path / f'seed_{seed}' / 'epoch_4.pth' for seed in (0, 1)]
    for seed, file in enumerate(saved):
        load_checkpoint_strictly(learned.eval(), str(file))
        for row, point in zip(rows, operating_points(learned)):
            with at_operating_point(learned, point):
                labels, predicted, _ = predict(learned, held_out)
            accuracy = percent([p == y for p, y in zip(predicted, labels)])
            assert float(row[f'seed_{seed}']) == pytest.approx(accuracy)
    for row in rows:
        scores = [float(row[f'seed_{seed}']) for seed in (0, 1)]
        mean, spread = sum(scores) / 2, statistics.stdev(scores)
        assert float(row['accuracy/top1_mean']) == pytest.approx(mean)
        assert float(row['accuracy/top1_std']) == pytest.approx(spread)
        assert float(row['baseline']) == pytest.approx(plain)
        cells = f'{row["layers"]} │ {mean:.2f} ± {spread:.2f}'
        assert cells in ' '.join(done.stdout.split())
    weights = [torch.load(f, weights_only=False)['state_dict'] for f in saved]
    assert all(key.startswith('reconstructions.') for key in weights[0])
    # Seeds differ, and the rate falls to a tenth behind the third epoch.
    key = 'reconstructions.stage1_n0.0.weight'
    assert not torch.equal(weights[0][key], weights[1][key])
    (log,) = (tmp_path / 'seed_0').glob('*/vis_data/scalars.json')
    rates = [float(r.split('"lr": ')[1].split(',')[0]) for r in log.open() if '"lr"' in r]
    assert rates == pytest.approx([0.01] * 12 + [0.001] * 4)
    with Image.open(tmp_path / 'knowledge_consistency.png') as picture:
        assert picture.size == (1200, 600)


def config_of_baseline(file):
    cfg = Config.fromfile(file)
    return {**cfg.model, 'data_preprocessor': cfg.data_preprocessor}


@pytest.mark.parametrize(
    ('layers', 'file', 'message'),
    [
        (-1, None, 'layers must be different numbers from 0 on, got (-1,)'),
        (0, 'mmpretrain::nowhere.py', 'there is no config'),
    ],
)
def test_refusals_of_knowledge_consistency(
    checkpoint, baseline, digits, tmp_path, layers, file, message
):
    networks = (CONFIG, checkpoint, file or baseline[0], baseline[1])
    arguments = ('--layers', layers, '--work-dir', tmp_path, *options(digits))
    done = run_tool(CONSISTENCY, *networks, *arguments, check=False)
    assert done.returncode != 0
    assert message in done.stderr
