"""Put the operating points of several reports into one table and one picture.

A report is the operating_points.json that tools/test.py writes, or the directory with it;
its name in the table is what stands before =, or else the name of its directory. Prints
the table, with the points that none of any report beats marked *, and writes
comparison.csv and comparison.png.

example: python tools/analysis_tools/compare_reports.py thresholds=work_dirs/a \\
             joint=work_dirs/b/operating_points.json --out-dir work_dirs/comparison
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdyn.utils.command_line import tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument('reports', nargs='+', metavar='[NAME=]REPORT', help='the reports')
    parser.add_argument(
        '--out-dir',
        type=Path,
        default=Path('work_dirs/comparison'),
        metavar='DIR',
        help='where to write, made if missing (default: work_dirs/comparison)',
    )
    parser.add_argument(
        '--metric',
        help='metric to draw and to rank points by, more being better (default: the one '
        'the first report ranks by)',
    )
    return parser.parse_args()


def name_and_path(argument: str) -> tuple[str, Path]:
    """Divide an argument at the first = with a path that exists behind it, if any."""
    parts = argument.split('=')
    divided = [
        ('='.join(parts[:i]), Path('='.join(parts[i:]))) for i in range(len(parts))
    ]
    fallback = divided[min(1, len(divided) - 1)]
    name, path = next((pair for pair in divided if pair[1].exists()), fallback)
    folder = path if path.is_dir() else path.parent
    return name or folder.resolve().name, path


def named_paths(arguments: Sequence[str]) -> dict[str, Path]:
    paths = {}
    for name, path in map(name_and_path, arguments):
        if name in paths:
            raise ValueError(
                f'two reports are named {name!r}: tell them apart with NAME={path}'
            )
        paths[name] = path
    return paths


def main() -> None:
    args = parse_args()
    from mmdyn.evaluation.comparison import ReportComparison
    from mmdyn.evaluation.report import OperatingPointReport
    from mmdyn.visualization.curve import draw_report

    try:
        paths = named_paths(args.reports)
        reports = {name: OperatingPointReport.load(path) for name, path in paths.items()}
        comparison = ReportComparison(reports, args.metric)
        args.out_dir.mkdir(parents=True, exist_ok=True)
        files = [*comparison.write(args.out_dir), *draw_report(comparison, args.out_dir)]
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    comparison.print()
    print('Written to', *files, sep='\n  ')


if __name__ == '__main__':
    main()
