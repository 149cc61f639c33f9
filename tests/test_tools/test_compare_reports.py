"""Reports side by side through the command line."""

import csv

import pytest
from helpers.tools import run_tool
from PIL import Image

from mmdyn import OperatingPointReport
from mmdyn.evaluation.point_result import PointResult

COMPARE = 'tools/analysis_tools/compare_reports.py'


def write(folder, dense, points, name='accuracy/top1'):
    """A report in a folder; points are (name, score, MACs)."""
    folder.mkdir(parents=True)
    latency = dict(median=1.0, p90=2.0)
    OperatingPointReport(
        config=None,
        checkpoint=None,
        device='cpu',
        batch_size=8,
        dense_point=points[-1][0],
        dense_macs_per_image=dense,
        points=[
            PointResult(point, {name: score}, macs, macs / dense, latency)
            for point, score, macs in points
        ],
    ).write(folder)


@pytest.fixture(scope='module')
def reports(tmp_path_factory):
    """Two reports, of gates and of thresholds, and one of another metric."""
    root = tmp_path_factory.mktemp('reports')
    thresholds = [('quick', 80.0, 5e8), ('half', 88.0, 8e8), ('dense', 92.0, 1.15e9)]
    write(root / 'thresholds', 1.15e9, thresholds)
    gates = [('lambda=1', 86.0, 6e8), ('lambda=0.1', 91.0, 8e8), ('all', 92.5, 1.158e9)]
    write(root / 'lambda=1', 1.158e9, gates)
    write(root / 'other', 1e9, [('dense', 40.0, 1e9)], name='mIoU')
    return root


def rows_of(folder):
    with (folder / 'comparison.csv').open() as file:
        return list(csv.DictReader(file))


def test_table_csv_and_picture(reports, tmp_path):
    gates = reports / 'lambda=1' / 'operating_points.json'
    folder = tmp_path / 'deep' / 'out'
    arguments = (f'λ=1={gates}', reports / 'thresholds', '--out-dir', folder)
    done = run_tool(COMPARE, *arguments)
    rows = rows_of(folder)
    marks = {(row['report'], row['point']): row['pareto'] for row in rows}
    assert marks == {
        ('λ=1', 'lambda=1'): '1',
        ('λ=1', 'lambda=0.1'): '1',
        ('λ=1', 'all'): '1',
        ('thresholds', 'quick'): '1',
        ('thresholds', 'half'): '0',
        ('thresholds', 'dense'): '1',
    }
    ratios = [float(row['cost_ratio']) for row in rows]
    expected = [6e8, 8e8, 1.158e9, 5e8, 8e8, 1.15e9]
    assert ratios == pytest.approx([macs / 1.158e9 for macs in expected])
    printed = [
        ' '.join(line.split('│')).split()
        for line in done.stdout.splitlines()
        if line.startswith('│')
    ]
    assert printed[0] == ['λ=1', 'lambda=1', '86.00', '600.00', '0.518', '*']
    assert printed[4] == ['thresholds', 'half', '88.00', '800.00', '0.691']
    written = [folder / 'comparison.csv', folder / 'comparison.png']
    assert done.stdout.splitlines()[-3:] == ['Written to', *(f'  {f}' for f in written)]
    with Image.open(written[1]) as picture:
        assert picture.size == (1280, 880)
        assert len(picture.convert('L').getcolors()) > 10


def test_names_are_those_of_the_directories(reports, tmp_path):
    # The = of a directory's name does not end the name of a report.
    file = reports / 'thresholds' / 'operating_points.json'
    run_tool(COMPARE, reports / 'lambda=1', file, '--out-dir', tmp_path)
    names = dict.fromkeys(row['report'] for row in rows_of(tmp_path))
    assert list(names) == ['lambda=1', 'thresholds']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['a={0}/nix'], '{0}/nix does not exist: a report is an operating_points.json'),
        (['{0}'], '{0}/operating_points.json does not exist'),
        (['{0}/thresholds/operating_points.csv'], 'operating_points.csv is not a report'),
        (
            ['{0}/thresholds', 'thresholds={0}/other'],
            "reports are named 'thresholds'",
        ),
        (['{0}/thresholds', '--metric', 'f1'], "unknown metric 'f1'; measured in every"),
        (['{0}/thresholds', '{0}/other'], 'no metric is in every report'),
        (['{0}/other', '--out-dir', '{0}/other/operating_points.json'], 'File exists'),
    ],
)
def test_refusals_in_one_line(reports, tmp_path, arguments, message):
    arguments = [argument.format(reports) for argument in arguments]
    if '--out-dir' not in arguments:
        arguments += ['--out-dir', tmp_path / 'out']
    done = run_tool(COMPARE, *arguments, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert message.format(reports) in line
    assert not done.stdout and not (tmp_path / 'out').exists()
