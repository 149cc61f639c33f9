"""Calibrate what a trained classifier says of its own certainty, at each operating point.

Fits a temperature for each exit and chooses thresholds of conformal sets on the
validation data of the config, and writes them beside the checkpoint, where the metric
mmdyn.UncertaintyReport finds them in tools/test.py. Draws, on the test data, how often
predictions are right that are so and so sure, before and after. Of images that are both
validation and test data it calibrates on every other one, and draws the rest.

example: python tools/analysis_tools/calibrate.py CONFIG CHECKPOINT --alpha 0.05
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import rich.progress
from mmpretrain.models import ImageClassifier
from rich.console import Console
from rich.table import Table

from mmdyn import (
    OperatingPoint,
    dense_operating_point,
    load_operating_points,
    operating_points,
)
from mmdyn.engine.runner import add_launch_arguments, runner_for_search
from mmdyn.engine.splits import split_loaders
from mmdyn.evaluation.tables import console_for_tables
from mmdyn.evaluation.uncertainty.calibration import Calibration, save_calibration
from mmdyn.evaluation.uncertainty.conformal import METHODS
from mmdyn.evaluation.uncertainty.fitting import fit_calibration
from mmdyn.evaluation.uncertainty.predictions import Predictions, predictions_at_points
from mmdyn.evaluation.uncertainty.reliability import reliability_bins
from mmdyn.evaluation.uncertainty.temperature import apply_temperature
from mmdyn.operating_point import find_operating_points
from mmdyn.visualization.reliability import draw_reliability


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--alpha',
        type=float,
        default=0.05,
        help='share of conformal sets that may lack the true class (default: 0.05)',
    )
    parser.add_argument(
        '--method',
        choices=METHODS,
        default='gated',
        help='how the thresholds of the exits are chosen (default: gated)',
    )
    parser.add_argument(
        '--draw',
        nargs='+',
        metavar='POINT',
        help='operating points to draw (default: the one at which nothing is skipped)',
    )
    add_launch_arguments(parser)
    args = parser.parse_args()
    if not 0 < args.alpha < 1:
        parser.error(f'--alpha must lie in (0, 1), got {args.alpha}')
    if args.launcher != 'none':
        parser.error(f'one process calibrates, got --launcher {args.launcher}')
    return args


def print_calibration(
    calibration: Calibration,
    predictions: dict[OperatingPoint, Predictions],
    notes: list[str],
) -> None:
    table = Table(title='Calibration')
    table.add_column('point')
    for name in ('exit', 'images', 'temperature', 'threshold'):
        table.add_column(name, justify='right')
    for point, said in predictions.items():
        temperatures = calibration.temperatures[point.name]
        counts = np.bincount(said.exits, minlength=len(temperatures))
        rows = zip(counts, temperatures, calibration.thresholds[point.name])
        for exit, (count, temperature, threshold) in enumerate(rows, 1):
            if count:
                number = str(exit) if len(temperatures) > 1 else ''
                values = f'{temperature:.3f}', f'{threshold:.4f}'
                table.add_row(point.name, number, str(count), *values)
    share = 100 * (1 - calibration.alpha)
    table.caption = (
        f'images: validation images that leave there, if any do. A set holds the classes '
        f'with a probability of at least 1 - threshold; {share:g} % of the sets should '
        f'hold the true class.'
    )
    console_for_tables().print(table)
    for note in notes:
        print(note)


def draw(
    path: Path, predictions: dict[OperatingPoint, Predictions], calibration: Calibration
) -> None:
    curves = {}
    for point, each in predictions.items():
        temperatures = np.array(calibration.temperatures[point.name])[each.exits]
        chosen = each.log_probabilities[each.exits, np.arange(len(each.labels))]
        correct = chosen.argmax(axis=1) == each.labels
        for name, divisor in (
            ('before', np.ones_like(temperatures)),
            ('after', temperatures),
        ):
            confidences = apply_temperature(chosen, divisor).max(axis=1)
            curves[f'{point}, {name}'] = reliability_bins(confidences, correct)
    draw_reliability(path, curves)


def main() -> None:
    args = parse_args()
    try:
        runner = runner_for_search(args)
        model = runner.model.eval()
        if not isinstance(model, ImageClassifier):
            raise ValueError(f'this calibrates classifiers, got a {type(model).__name__}')
        load_operating_points(model, args.checkpoint)
        searched = load_operating_points(model, args.checkpoint)
        offered = operating_points(model)
        drawn = find_operating_points(
            model, args.draw or [dense_operating_point(model).name]
        )
        validation, test = split_loaders(runner)
        if searched:
            runner.logger.warning(
                f'{searched} operating points were searched for: if on these images, '
                f'calibrate on others (--cfg-options val_dataloader.dataset.indices=…)'
            )
        track = partial(rich.progress.track, transient=True, console=Console(stderr=True))
        predictions = predictions_at_points(model, offered, validation, track)
        calibration, notes = fit_calibration(predictions, args.alpha, args.method)
        file = save_calibration(args.checkpoint, calibration)
        print_calibration(calibration, predictions, notes)
        unseen = predictions_at_points(model, drawn, test, track)
    except ValueError as error:
        sys.exit(str(error))
    picture = Path(runner.work_dir) / 'reliability.png'
    draw(picture, unseen, calibration)
    print('Written to', file, picture, sep='\n  ')


if __name__ == '__main__':
    main()
