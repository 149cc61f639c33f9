"""Search the operating points of a trained CNMM: which exit, how many functions.

Runs each exit at several levels of pruning on the validation data of the config, keeps
the upper envelope of score against executed MACs, and writes its points beside the
checkpoint, where tools/test.py finds them. No training.

example: python tools/analysis_tools/cnmm_frontier.py CONFIG CHECKPOINT --points 8
"""

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import nn

from mmdyn import OperatingPoint
from mmdyn.engine.loss_hook import unwrapped
from mmdyn.engine.runner import add_launch_arguments, runner_for_search
from mmdyn.evaluation.report import console_for_tables
from mmdyn.evaluation.saved_points import (
    outermost_dynamic_module,
    save_operating_points,
)
from mmdyn.methods.cnmm.backbone import CNMM, RANKINGS
from mmdyn.methods.cnmm.drawing import draw_frontier
from mmdyn.methods.cnmm.frontier import best_within, thin_envelope


@dataclass(frozen=True)
class Row:
    """A network carved out of the model, and what it costs and scores.

    ``exit`` is ``None`` where the model has no exits, ``ranking`` where all functions
    that lead to the exit are kept.
    """

    point: OperatingPoint
    exit: int | None
    functions: int
    ranking: str | None
    macs_per_image: float = 0.0
    score: float = 0.0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--levels',
        type=int,
        default=16,
        help='levels of pruning to try at each exit (default: 16)',
    )
    parser.add_argument(
        '--points', type=int, default=12, help='points to offer, at most (default: 12)'
    )
    parser.add_argument(
        '--ranking',
        choices=[*RANKINGS, 'both'],
        default='both',
        help='what tells the functions to remove first (default: both, compared)',
    )
    parser.add_argument(
        '--metric',
        help='metric to rank by, more being better (default: mIoU, or the first one)',
    )
    add_launch_arguments(parser)
    args = parser.parse_args()
    for name, least in (('levels', 1), ('points', 2)):
        if getattr(args, name) < least:
            parser.error(f'--{name} must be {least} or more, got {getattr(args, name)}')
    return args


def candidates(model: nn.Module, rankings: list[str], levels: int) -> list[Row]:
    """Networks to try, those with all functions of an exit among them."""
    owner = outermost_dynamic_module(model)
    backbone = owner if isinstance(owner, CNMM) else getattr(owner, 'backbone', None)
    if not isinstance(backbone, CNMM):
        raise ValueError(f'the model needs an mmdyn.CNMM, got a {type(owner).__name__}')
    if backbone is owner:
        return _candidates_at(
            backbone, None, None, owner.dense_operating_point, rankings, levels
        )
    rows = []
    for exit, stage in enumerate(owner.exit_stages, 1):
        whole = next(p for p in owner.operating_points if p.name == f'exit={exit}')
        rows += _candidates_at(backbone, [stage], exit, whole, rankings, levels)
    return rows


def _candidates_at(backbone, stages, exit, whole, rankings, levels) -> list[Row]:
    """Networks that end at an exit, ``whole`` being the point with all functions."""
    rows = []
    for ranking in rankings:
        numbers = [
            len(functions) for functions in backbone.pruning_sequence(stages, ranking)
        ]
        if not rows:
            rows.append(Row(whole, exit, numbers[0], None))
        places = np.linspace(0, len(numbers) - 1, levels + 1).round().astype(int)[1:]
        for number in dict.fromkeys(numbers[i] for i in places if i):
            point = backbone.pruned_point(number, exit, ranking)
            rows.append(Row(point, exit, number, ranking))
    return rows


def evaluate(
    runner: Runner, rows: list[Row], metric: str | None
) -> tuple[str, list[Row]]:
    """Run every row on the validation data; the name of the metric, and the results."""
    outermost_dynamic_module(unwrapped(runner.model)).offer_points(
        [row.point for row in rows]
    )
    names = [row.point.name for row in rows]
    loop = runner.build_val_loop(dict(type='mmdyn.OperatingPointValLoop', points=names))
    found = loop.run()
    measured = [
        key.split('/', 1)[1]
        for key in found
        if key.startswith(f'{names[0]}/') and not key.endswith('/macs_per_image')
    ]
    metric = metric or ('mIoU' if 'mIoU' in measured else measured[0])
    if metric not in measured:
        sys.exit(f'unknown metric {metric!r}; measured: {measured}')
    return metric, [
        replace(
            row,
            macs_per_image=found[f'{row.point.name}/macs_per_image'],
            score=float(found[f'{row.point.name}/{metric}']),
        )
        for row in rows
        if f'{row.point.name}/macs_per_image' in found
    ]


def best_curve(rows: list[Row]) -> list[tuple[float, float]]:
    """The upper envelope of some rows as (cost, score), from the cheapest on."""
    costs, scores = [r.macs_per_image for r in rows], [r.score for r in rows]
    steps = sorted(set(costs))
    return list(zip(steps, best_within(steps, costs, scores).tolist()))


def mean_score(rows: list[Row], lowest: float, highest: float) -> float:
    """Mean over budgets between two costs of the best score within the budget."""
    budgets = np.linspace(lowest, highest, 200)
    scores = best_within(
        budgets, [r.macs_per_image for r in rows], [r.score for r in rows]
    )
    return float(scores.mean())


def choose(rows: list[Row], number: int) -> list[Row]:
    """The points of the upper envelope that it would miss most."""
    costs, scores = [r.macs_per_image for r in rows], [r.score for r in rows]
    return [rows[i] for i in thin_envelope(costs, scores, number)]


def dense_row(rows: list[Row]) -> Row:
    return [row for row in rows if row.ranking is None][-1]


def print_points(chosen: list[Row], dense: Row, metric: str, console: Console) -> None:
    table = Table(title='Points to offer')
    table.add_column('point', overflow='fold')
    for name in ('functions', metric, 'MMACs', 'cost'):
        table.add_column(name, justify='right')
    for row in chosen:
        table.add_row(
            row.point.name,
            str(row.functions),
            f'{row.score:.2f}',
            f'{row.macs_per_image / 1e6:.2f}',
            f'{row.macs_per_image / dense.macs_per_image:.3f}',
        )
    console.print(table)


def compare(rows: list[Row], rankings: list[str]) -> dict[str, float]:
    """Mean of the best score over budgets from the cheapest exit's to the full cost.

    By ranking, and for the early exits alone. A model without exits has its cheapest
    network in the cheapest exit's place.
    """
    exits = [row for row in rows if row.ranking is None]
    lowest, highest = exits[0].macs_per_image, exits[-1].macs_per_image
    if len(exits) == 1:
        lowest = max(
            min(r.macs_per_image for r in rows if r.ranking in (None, name))
            for name in rankings
        )
    means = {
        f'functions by {name}': mean_score(of_ranking(rows, name), lowest, highest)
        for name in rankings
    }
    if len(rankings) > 1:
        means['functions by either'] = mean_score(rows, lowest, highest)
    if len(exits) > 1:
        means['early exits alone'] = mean_score(exits, lowest, highest)
    return means


def of_ranking(rows: list[Row], ranking: str) -> list[Row]:
    """The networks of one ranking, those with all functions among them."""
    return [row for row in rows if row.ranking in (None, ranking)]


def draw(
    rows: list[Row], chosen: list[Row], rankings: list[str], metric: str, path
) -> None:
    whole = [row for row in rows if row.ranking is None]

    def curve(some: list[Row]) -> list[tuple[float, float]]:
        return [(row.macs_per_image, row.score) for row in some]

    draw_frontier(
        pruned={
            'all outputs' if w.exit is None else f'exit {w.exit}': curve(
                [row for row in rows if row.exit == w.exit]
            )
            for w in whole
        },
        exits=curve(whole),
        envelopes={f'by {name}': best_curve(of_ranking(rows, name)) for name in rankings},
        chosen=curve(chosen),
        path=path,
        metric=metric,
    )


def write_rows(rows: list[Row], metric: str, path: Path) -> None:
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(
            ['point', 'exit', 'functions', 'ranking', 'macs_per_image', metric]
        )
        for r in rows:
            writer.writerow(
                [r.point, r.exit, r.functions, r.ranking, r.macs_per_image, r.score]
            )


def main() -> None:
    args = parse_args()
    rankings = list(RANKINGS) if args.ranking == 'both' else [args.ranking]
    try:
        runner = runner_for_search(args)
        rows = candidates(unwrapped(runner.model), rankings, args.levels)
    except ValueError as error:
        sys.exit(str(error))
    metric, rows = evaluate(runner, rows, args.metric)
    if not is_main_process():
        return
    means = compare(rows, rankings)
    chosen = choose(rows, args.points)
    console = console_for_tables()
    print_points(chosen, dense_row(rows), metric, console)
    console.print('Mean of the best score over budgets up to the full cost:')
    for name, mean in means.items():
        console.print(f'  {name}: {mean:.2f}')

    folder = Path(runner.work_dir)
    table, picture = folder / 'cnmm_frontier.csv', folder / 'cnmm_frontier.png'
    write_rows(rows, metric, table)
    draw(rows, chosen, rankings, metric, picture)
    points = save_operating_points(
        args.checkpoint,
        [row.point for row in chosen],
        config=args.config,
        metric=metric,
    )
    console.print('Written to', soft_wrap=True)
    for path in (points, table, picture):
        console.print(f'  {path}', soft_wrap=True)


if __name__ == '__main__':
    main()
