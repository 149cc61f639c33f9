import csv
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdyn import OperatingPointReport
from mmdyn.evaluation.comparison import ReportComparison
from mmdyn.evaluation.point_result import PointResult
from mmdyn.visualization.curve import draw_report

TOP1 = 'accuracy/top1'


def report(points, dense=4e6, metric=None):
    """A report of points given as (name, metrics, MACs)."""
    latency = dict(median=1.0, p90=2.0)
    results = [
        PointResult(name, metrics, macs, macs / dense, latency)
        for name, metrics, macs in points
    ]
    return OperatingPointReport(
        config=None,
        checkpoint=None,
        device='cpu',
        batch_size=8,
        dense_point=results[-1].name,
        dense_macs_per_image=dense,
        metric=metric,
        points=results,
    )


def scored(*pairs, **settings):
    """A report of points given as (score, MACs)."""
    points = [(f'exit={i}', {TOP1: score}, m) for i, (score, m) in enumerate(pairs, 1)]
    return report(points, **settings)


@pytest.fixture
def two():
    """Thresholds and gates: of each an own metric, dense costs within 1 %."""
    points = [('exit=1', {TOP1: 70.0, 'f1': 0.5}, 1e6), ('exit=2', {TOP1: 90.0}, 4e6)]
    thresholds = report(points)
    points = [
        ('soft', {TOP1: 80.0, 'ece': 3.25}, 2e6),
        ('dense', {TOP1: 85.0, 'ece': float('nan')}, 4.02e6),
    ]
    return {'thresholds': thresholds, 'gates': report(points, dense=4.02e6)}


points_of_a_report = st.lists(
    st.tuples(st.integers(0, 4).map(float), st.integers(1, 5).map(float)), min_size=1
)


@settings(derandomize=True)
@given(st.lists(points_of_a_report, min_size=1, max_size=4))
def test_joint_front_against_brute_force(pairs):
    reports = {str(i): scored(*of_one, dense=5.0) for i, of_one in enumerate(pairs)}
    comparison = ReportComparison(reports)
    found = comparison.points
    every = [pair for of_one in pairs for pair in of_one]
    assert len(found) == len(every)
    for point, mark, (score, macs) in zip(found, comparison.pareto(), every):
        # The best at its cost, and better than all that is cheaper.
        best = score == max(s for s, m in every if m == macs)
        cheaper = max((s for s, m in every if m < macs), default=-1)
        assert mark == (best and score > cheaper)
        assert (point.score(TOP1), point.macs_per_image) == (score, macs)


def test_points_keep_their_report_and_order(two):
    comparison = ReportComparison(two)
    found = [(point.run, point.name) for point in comparison.points]
    assert [(*pair, mark) for pair, mark in zip(found, comparison.pareto())] == [
        ('thresholds', 'exit=1', True),
        ('thresholds', 'exit=2', True),
        ('gates', 'soft', True),
        ('gates', 'dense', False),
    ]


@pytest.mark.parametrize(
    ('dense', 'common'),
    [
        ((100.0, 99.0), 100.0),
        ((99.0, 100.0, 99.5), 100.0),
        ((100.0, 98.9), None),
        ((100.0, 99.5, 98.9), None),
        ((7.0,), 7.0),
    ],
)
def test_common_dense_cost_is_the_most_within_a_percent(dense, common):
    reports = {str(i): scored((1.0, 50.0), dense=macs) for i, macs in enumerate(dense)}
    comparison = ReportComparison(reports)
    assert comparison.dense_costs == ([*dense] if common is None else [common])
    ratio = comparison.points[0].cost_ratio
    expected = math.nan if common is None else 50 / common
    assert ratio == pytest.approx(expected, nan_ok=True)


def cells(line):
    return [cell.strip() for cell in line.strip('│ ').split('│')]


def test_table(two, capsys):
    comparison = ReportComparison(two)
    comparison.print()
    lines = capsys.readouterr().out.splitlines()
    (header,) = (line for line in lines if 'MMACs' in line and '┃' in line)
    assert header.replace('┃', ' ').split() == [
        *('report', 'point', TOP1, 'f1', 'ece', 'MMACs', 'cost', '*')
    ]
    rows = [cells(line) for line in lines if line.startswith('│')]
    assert rows == [
        ['thresholds', 'exit=1', '70.00', '0.50', '–', '1.00', '0.249', '*'],
        ['thresholds', 'exit=2', '90.00', '–', '–', '4.00', '0.995', '*'],
        ['gates', 'soft', '80.00', '–', '3.25', '2.00', '0.498', '*'],
        ['gates', 'dense', '85.00', '–', '–', '4.02', '1.000'],
    ]
    text = ' '.join(' '.join(lines).split())
    assert 'share of 4.02 MMACs' in text and 'both cheaper and better in accuracy' in text


def test_table_without_a_common_cost(capsys):
    few, many = scored((1.0, 1e6), dense=2e6), scored((2.0, 3e6))
    ReportComparison({'[few]': few, 'many': many}).print()
    out = capsys.readouterr().out
    rows = [cells(line) for line in out.splitlines() if line.startswith('│')]
    assert rows == [
        ['[few]', 'exit=1', '1.00', '1.00', '–', '*'],
        ['many', 'exit=1', '2.00', '3.00', '–', '*'],
    ]
    assert 'No common cost' in out and 'more than 1%' in ' '.join(out.split())


def test_csv_holds_the_same_numbers(two, tmp_path):
    ReportComparison(two).write(tmp_path)
    with (tmp_path / 'comparison.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == [
        *('report', 'point', TOP1, 'f1', 'ece', 'macs_per_image', 'cost_ratio', 'pareto')
    ]
    assert [row['report'] for row in rows] == ['thresholds'] * 2 + ['gates'] * 2
    assert [row['point'] for row in rows] == ['exit=1', 'exit=2', 'soft', 'dense']
    assert [float(row[TOP1]) for row in rows] == [70, 90, 80, 85]
    assert [row['f1'] for row in rows] == ['0.5', 'nan', 'nan', 'nan']
    assert [float(row['macs_per_image']) for row in rows] == [1e6, 4e6, 2e6, 4.02e6]
    ratios = [float(row['cost_ratio']) for row in rows]
    assert ratios == pytest.approx([1 / 4.02, 4 / 4.02, 2 / 4.02, 1])
    assert [row['pareto'] for row in rows] == ['1', '1', '1', '0']


def test_pictures_only_where_there_is_a_score(two, tmp_path):
    (file,) = draw_report(ReportComparison(two), tmp_path)
    assert file.name == 'comparison.png'
    assert file.read_bytes().startswith(b'\x89PNG')
    two['blind'] = scored((math.nan, 1e6))
    assert len(draw_report(ReportComparison(two), tmp_path)) == 1
    nothing = ReportComparison({'blind': two['blind']})
    assert draw_report(nothing, tmp_path) == []
    assert [file.name for file in nothing.write(tmp_path)] == ['comparison.csv']


def test_metric_of_all_reports():
    both = [('a', {'f1': 1.0, TOP1: 2.0}, 1e6), ('b', {'f1': 2.0, TOP1: 1.0}, 2e6)]
    first = report(both, metric=TOP1)
    assert ReportComparison({'first': first}).metric == TOP1
    assert ReportComparison({'first': first, 'again': report(both)}).metric == TOP1
    # The first report's own is not in the second: the first that both have.
    other = report([('a', {'f1': 5.0}, 1e6)])
    comparison = ReportComparison({'first': first, 'other': other})
    assert comparison.metric == 'f1'
    assert comparison.pareto() == [False, False, True]
    assert ReportComparison({'first': first}, 'f1').pareto() == [True, True]


def test_a_metric_that_is_a_list_elsewhere(capsys):
    points = [('a', {TOP1: 1.0, 'iou': [1.0, 2.0]}, 1e6), ('b', {TOP1: 2.0}, 2e6)]
    reports = {
        'lists': report(points),
        'numbers': report([('a', {TOP1: 3.0, 'iou': 0.5}, 2e6)]),
    }
    comparison = ReportComparison(reports)
    assert math.isnan(comparison.points[0].score('iou'))
    comparison.print()
    assert '0.50' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        ('f2', r"unknown metric 'f2'; measured in every report: \['accuracy/top1'\]"),
        ('f1', r"unknown metric 'f1'; measured in every report: \['accuracy/top1'\]"),
    ],
)
def test_unknown_metric(two, metric, message):
    with pytest.raises(ValueError, match=message):
        ReportComparison(two, metric)


def test_no_common_metric():
    reports = {
        'one': scored((1.0, 1e6)),
        'other': report([('a', {'mIoU': 1.0}, 1e6)]),
    }
    with pytest.raises(ValueError, match="'one': .'accuracy/top1'., 'other': .'mIoU'"):
        ReportComparison(reports)


def test_load_from_file_or_directory(two, tmp_path):
    two['gates'].write(tmp_path)
    loaded = [
        OperatingPointReport.load(tmp_path),
        OperatingPointReport.load(tmp_path / 'operating_points.json'),
    ]
    for each in loaded:
        assert [p.name for p in each.points] == ['soft', 'dense']
        assert each.dense_macs_per_image == 4.02e6
    assert math.isnan(loaded[0].points[1].score('ece'))


def test_load_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='operating_points.json does not exist'):
        OperatingPointReport.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'other\.json does not exist'):
        OperatingPointReport.load(str(tmp_path / 'other.json'))


@pytest.mark.parametrize(
    'content',
    ['', 'top-1: 90', '[]', '3', '{}', '{"points": []}', '{"points": [{"name": "a"}]}'],
)
def test_load_what_is_no_report(tmp_path, content):
    (tmp_path / 'operating_points.json').write_text(content)
    with pytest.raises(ValueError, match='is not a report of tools/test.py'):
        OperatingPointReport.load(tmp_path)
