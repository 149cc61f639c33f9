"""Calibrate the uncertainty of a trained classifier, at each operating point.

Fits a temperature for each exit and chooses thresholds of conformal sets on the
validation data of the config, and writes them to a sidecar file of the checkpoint, where
the metric mmdyn.UncertaintyReport finds them in tools/test.py. Draws reliability diagrams
of the test data, before and after. Of images that are both validation and test data it
calibrates on every other one, and draws the rest.

example: python tools/analysis_tools/calibrate.py CONFIG CHECKPOINT --alpha 0.05
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from mmdyn.evaluation.uncertainty.conformal import METHODS
from mmdyn.utils.command_line import add_runner_arguments, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
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
        default=['dense'],
        help='operating points to draw (default: dense, at which nothing is skipped)',
    )
    add_runner_arguments(parser)
    args = parser.parse_args()
    if not 0 < args.alpha < 1:
        parser.error(f'--alpha must lie in (0, 1), got {args.alpha}')
    if args.launcher != 'none':
        parser.error(f'one process calibrates, got --launcher {args.launcher}')
    return args


def print_calibration(calibration, predictions: dict) -> None:
    from mmdyn.evaluation.tables import Column, number_column, print_table

    rows = []
    for point, (_, _, exits) in predictions.items():
        temperatures = calibration.temperatures[point.name]
        counts = np.bincount(exits, minlength=len(temperatures))
        values = zip(counts, temperatures, calibration.thresholds[point.name])
        for exit, (count, temperature, threshold) in enumerate(values, 1):
            if count:
                number = exit if len(temperatures) > 1 else np.nan
                rows.append((point.name, number, count, temperature, threshold))
    points, exits, counts, temperatures, thresholds = zip(*rows)
    share = 100 * (1 - calibration.alpha)
    print_table(
        [
            Column('point', 'point', points),
            number_column('exit', 'exit', exits, 0),
            number_column('images', 'images', counts, 0),
            number_column('temperature', 'temperature', temperatures, 3),
            number_column('threshold', 'threshold', thresholds, 4),
        ],
        title='Calibration',
        caption=f'images: validation images that leave there, if any do. A set holds the '
        f'classes with a probability of at least 1 - threshold; {share:g} % of the sets '
        f'should hold the true class.',
    )


def draw(path: Path, predictions: dict, calibration) -> None:
    from mmdyn.evaluation.uncertainty.reliability import reliability_bins
    from mmdyn.evaluation.uncertainty.temperature import apply_temperature
    from mmdyn.visualization.reliability import draw_reliability

    curves = {}
    for point, (log_probabilities, labels, exits) in predictions.items():
        temperatures = np.array(calibration.temperatures[point.name])[exits]
        chosen = log_probabilities[exits, np.arange(len(labels))]
        correct = chosen.argmax(axis=1) == labels
        for name, divisor in (
            ('before', np.ones_like(temperatures)),
            ('after', temperatures),
        ):
            confidences = apply_temperature(chosen, divisor).max(axis=1)
            curves[f'{point}, {name}'] = reliability_bins(confidences, correct)
    draw_reliability(path, curves)


def main() -> None:
    args = parse_args()
    import rich.progress
    from mmpretrain.models import ImageClassifier
    from rich.console import Console

    from mmdyn.engine.runner import runner_for_search
    from mmdyn.engine.splits import split_loaders
    from mmdyn.evaluation.saved_points import load_operating_points
    from mmdyn.evaluation.uncertainty.calibration import save_calibration
    from mmdyn.evaluation.uncertainty.fitting import fit_calibration
    from mmdyn.evaluation.uncertainty.predictions import predictions_at_points
    from mmdyn.operating_point import find_operating_points, operating_points

    try:
        runner = runner_for_search(args)
        model = runner.model.eval()
        if not isinstance(model, ImageClassifier):
            raise ValueError(f'this calibrates classifiers, got a {type(model).__name__}')
        searched = load_operating_points(model, args.checkpoint)
        drawn = find_operating_points(model, args.draw)
        validation, test = split_loaders(runner)
        if searched:
            runner.logger.warning(
                f'{searched} operating points were searched for: if on these images, '
                f'calibrate on others (--cfg-options val_dataloader.dataset.indices=…)'
            )
        track = partial(rich.progress.track, transient=True, console=Console(stderr=True))
        predictions = predictions_at_points(
            model, operating_points(model), validation, track
        )
        calibration, notes = fit_calibration(predictions, args.alpha, args.method)
        file = save_calibration(args.checkpoint, calibration)
        print_calibration(calibration, predictions)
        for note in notes:
            print(note)
        unseen = predictions_at_points(model, drawn, test, track)
    except ValueError as error:
        sys.exit(str(error))
    picture = Path(runner.work_dir) / 'reliability.png'
    draw(picture, unseen, calibration)
    print('Written to', file, picture, sep='\n  ')


if __name__ == '__main__':
    main()
