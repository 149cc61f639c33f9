import csv
import json
import math

import numpy as np
import pytest
import torch

from mmdyn import OperatingPoint, OperatingPointReport, select_operating_point
from mmdyn.evaluation.point_result import PointResult
from mmdyn.visualization.curve import draw_report


def point(name, score, macs, ms=1.0, **metrics):
    return PointResult(
        name,
        {'accuracy/top1': score, **metrics},
        macs,
        macs / 4e6,
        dict(median=ms, p90=2 * ms),
    )


def make(points=None, **changes):
    settings = dict(
        config='config.py',
        checkpoint='last.pth',
        device='cpu',
        batch_size=8,
        dense_point='exit=3',
        dense_macs_per_image=4e6,
        points=points
        or [
            point('exit=1', 80.0, 1e6, 0.25),
            point('exit=2', 75.0, 2e6, 0.5),
            point('exit=3', 90.0, 4e6, 1.0),
        ],
    )
    return OperatingPointReport(**{**settings, **changes})


def test_json_has_the_documented_form(tmp_path):
    make().write(tmp_path)
    content = json.loads((tmp_path / 'operating_points.json').read_text())
    assert {'config', 'checkpoint', 'device', 'points'} <= set(content)
    assert content['points'][1] == dict(
        name='exit=2',
        metrics={'accuracy/top1': 75.0},
        macs_per_image=2e6,
        cost_ratio=0.5,
        latency_ms=dict(median=0.5, p90=1.0),
    )


def test_read_back(tmp_path):
    report = make()
    report.write(tmp_path)
    assert OperatingPointReport.load(tmp_path / 'operating_points.json') == report


def test_csv_holds_the_same_numbers(tmp_path):
    make().write(tmp_path)
    with (tmp_path / 'operating_points.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['name'] for row in rows] == ['exit=1', 'exit=2', 'exit=3']
    assert [float(row['accuracy/top1']) for row in rows] == [80.0, 75.0, 90.0]
    assert [float(row['cost_ratio']) for row in rows] == [0.25, 0.5, 1.0]
    assert float(rows[0]['latency_ms_p90']) == 0.5
    assert [row['pareto'] for row in rows] == ['1', '0', '1']


def test_picture_is_written(tmp_path):
    (path,) = draw_report(make(), tmp_path)
    assert path.name == 'operating_points.png'
    assert path.read_bytes().startswith(b'\x89PNG')


def test_metrics_of_any_kind(tmp_path):
    odd = dict(
        per_class=torch.tensor([1.0, 2.0]),
        iou=np.float32(0.5),
        missing=float('nan'),
        matrix=[np.int64(3)],
    )
    report = make([point('dense', 1.0, 4e6, **odd)])
    assert report.scalar_metrics() == ['accuracy/top1', 'iou', 'missing']
    report.write(tmp_path)
    content = json.loads((tmp_path / 'operating_points.json').read_text())
    metrics = content['points'][0]['metrics']
    assert metrics['per_class'] == [1.0, 2.0] and metrics['iou'] == 0.5
    assert metrics['missing'] is None and metrics['matrix'] == [3]


def test_pareto_points():
    assert make().pareto() == [True, False, True]


def test_table_names_every_point_and_number(capsys):
    make().print()
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if 'exit=2' in line and '75' in line)
    assert [cell.strip() for cell in row.strip('│ ').split('│')] == [
        'exit=2',
        '75.00',
        '2.00',
        '0.500',
        '0.500',
        '1.000',
    ]


def test_chosen_metric():
    points = [point('a', 1.0, 1e6, f1=3.0), point('b', 2.0, 2e6, f1=2.0)]
    assert make(points).metric == 'accuracy/top1'
    report = make(points, metric='f1')
    assert report.pareto() == [True, False]
    with pytest.raises(ValueError, match="unknown metric 'f2'.*accuracy/top1.*f1"):
        make(points, metric='f2')


def test_not_a_number_is_kept_apart(tmp_path, capsys):
    report = make([point('a', float('nan'), 1e6), point('b', 2.0, 2e6)])
    assert report.pareto() == [False, True]
    report.print()
    assert '│ a     │             – │' in capsys.readouterr().out
    report.write(tmp_path)
    path = tmp_path / 'operating_points.json'
    again = OperatingPointReport.load(path)
    assert math.isnan(again.points[0].metrics['accuracy/top1'])
    assert again.pareto() == [False, True]
    assert select_operating_point(path).name == 'b'
    with pytest.raises(ValueError, match="= 1e.06: the nearest is 'b'"):
        select_operating_point(path, max_macs=1e6)


@pytest.mark.parametrize('scores', [(float('nan'), 2.0), (2.0, float('nan'))])
def test_only_points_with_a_score_are_drawn(tmp_path, scores):
    report = make([point('a', scores[0], 1e6), point('exit=3', scores[1], 4e6)])
    assert [path.suffix for path in draw_report(report, tmp_path)] == ['.png']
    nothing = make([point('a', float('nan'), 1e6)])
    assert draw_report(nothing, tmp_path) == []


def test_without_any_score(tmp_path, capsys):
    report = make([PointResult('dense', {}, 4e6, 1.0, dict(median=1.0, p90=2.0))])
    report.print()
    assert 'dense' in capsys.readouterr().out
    assert [path.suffix for path in report.write(tmp_path)] == ['.json', '.csv']
    assert draw_report(report, tmp_path) == []


def test_old_names_of_the_dense_point_are_read(tmp_path):
    """Reports of mmdyn 0.1, in which the dense point was called ``full``."""
    points = [point('budget=0.3+full', 80.0, 1e6), point('full', 90.0, 4e6)]
    old = make(points, dense_point='full', untrained_points=['full'])
    old.write(tmp_path)
    assert '"full"' in (tmp_path / 'operating_points.json').read_text()
    report = OperatingPointReport.load(tmp_path)
    assert [each.name for each in report.points] == ['budget=0.3+dense', 'dense']
    assert report.dense_point == 'dense' and report.untrained_points == ['dense']
    assert select_operating_point(tmp_path / 'operating_points.json').name == 'dense'


def test_names_of_a_user_stay(tmp_path):
    """A rule that somebody called ``full`` is not the dense point."""
    points = [point('full', 80.0, 1e6), point('exit=2', 90.0, 4e6)]
    make(points, dense_point='exit=2').write(tmp_path)
    found = OperatingPointReport.load(tmp_path)
    assert [each.name for each in found.points] == ['full', 'exit=2']
    assert found.dense_point == 'exit=2'


def test_settings_of_points_are_not_written(tmp_path):
    exit = OperatingPoint('exit=1', dict(exit=1))
    result = PointResult('exit=1', {}, 1e6, settings=exit.settings)
    assert result.point == exit
    make([result]).write(tmp_path)
    (found,) = OperatingPointReport.load(tmp_path).points
    assert found.settings == {} and found.latency_ms == {}
    assert math.isnan(found.cost_ratio)


def test_unwritable_directory(tmp_path):
    with pytest.raises(OSError):
        make().write(tmp_path / 'missing')
