"""Test a model of any mmpretrain, mmseg or mmdet config at its operating points.

Prints what each point scores, executes and takes, and writes operating_points.json, .csv
and .png in the work directory. Points that were searched for and saved beside the
checkpoint are among them. A model with nothing to switch is tested once.

example: python tools/test.py CONFIG CHECKPOINT --points exit=1 balanced
"""

import argparse
from copy import deepcopy
from pathlib import Path

from mmdyn.utils.command_line import add_points, add_runner_arguments, tool_parser

# Those that MMEngine can write.
PREDICTION_SUFFIXES = ['pkl', 'pickle']
METRIC_SUFFIXES = ['json', 'pickle', 'pkl', 'yaml', 'yml']


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config', 'checkpoint')
    add_runner_arguments(parser)
    add_points(parser, default='all that are trained')
    parser.add_argument(
        '--metric',
        help='metric to draw and to rank points by (default: the first one)',
    )
    parser.add_argument('--out', metavar='FILE', help='write results to this file')
    parser.add_argument(
        '--out-item',
        choices=['metrics', 'pred'],
        help='what --out writes (default: pred, the predictions)',
    )
    parser.add_argument(
        '--amp', action='store_true', help='test in automatic mixed precision'
    )
    parser.add_argument('--show-dir', help='where to write pictures of predictions')
    parser.add_argument(
        '--show', action='store_true', help='show predictions in a window'
    )
    parser.add_argument(
        '--interval', type=int, default=1, help='show every so many samples'
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds a window stays open'
    )
    parser.add_argument('--tta', action='store_true', help='augment at test time')
    args = parser.parse_args()
    if args.out_item and not args.out:
        parser.error('--out-item needs --out FILE')
    valid = METRIC_SUFFIXES if args.out_item == 'metrics' else PREDICTION_SUFFIXES
    if args.out and Path(args.out).suffix[1:] not in valid:
        parser.error(f'--out needs a suffix among {valid}, got {args.out!r}')
    return args


def merge_args(cfg, args: argparse.Namespace) -> None:
    from mmdyn.engine.runner import merge_cfg_options

    cfg.load_from = args.checkpoint
    use_operating_point_loop(cfg, args)
    if args.show or args.show_dir:
        show_predictions(cfg, args)
    if args.tta:
        augment(cfg)
    else:
        merge_cfg_options(cfg, args.cfg_options)  # they have the last word
        # Test-time augmentation averages scores of views that may exit anywhere.
        use_calibration(cfg, args.checkpoint)


def use_operating_point_loop(cfg, args: argparse.Namespace) -> None:
    loop = cfg.get('test_cfg') or {}
    kind = loop.get('type')  # a class, in configs in pure Python
    if getattr(kind, '__name__', kind) in (None, 'TestLoop', 'mmengine.TestLoop'):
        loop['type'] = 'mmdyn.OperatingPointTestLoop'
    for name in ('points', 'metric'):
        if getattr(args, name):
            loop[name] = getattr(args, name)
    if args.amp:
        loop['fp16'] = True
    cfg.test_cfg = loop


def use_calibration(cfg, checkpoint: str) -> None:
    """Have uncertainty reported with the calibration beside the checkpoint."""
    from mmdyn.evaluation.uncertainty.calibration import (
        calibration_file,
        load_calibration,
    )

    metrics = cfg.get('test_evaluator') or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    reports = [m for m in metrics if m.get('type') == 'mmdyn.UncertaintyReport']
    for report in reports:
        if report.get('calibration') is None and load_calibration(checkpoint):
            report['calibration'] = str(calibration_file(checkpoint))


def show_predictions(cfg, args: argparse.Namespace) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise ValueError('--show and --show-dir need a visualization hook in the config')
    hook.update(show=args.show, wait_time=args.wait_time, interval=args.interval)
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, out_dir=args.show_dir)
    else:
        hook.update(draw=True)
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir


def augment(cfg) -> None:
    if 'tta_model' not in cfg:
        if cfg.get('default_scope') != 'mmpretrain':
            raise ValueError('--tta needs tta_model and tta_pipeline in the config')
        cfg.tta_model = dict(type='AverageClsScoreTTA')
    if 'tta_pipeline' not in cfg:
        pipeline = deepcopy(cfg.test_dataloader.dataset.pipeline)
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        tta = dict(type='TestTimeAug', transforms=[flips, [pipeline[-1]]])
        cfg.tta_pipeline = [*pipeline[:-1], tta]
    cfg.model = dict(**cfg.tta_model, module=cfg.model)
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline


def offer_found_points(runner, checkpoint: str) -> None:
    """Offer the points saved beside the checkpoint, before the loop lists the model's."""
    from mmdyn.engine.loss_hook import unwrapped
    from mmdyn.evaluation.saved_points import load_operating_points, points_file

    number = load_operating_points(unwrapped(runner.model), checkpoint)
    if number:
        file = points_file(checkpoint)
        runner.logger.info(f'Offering the {number} operating points of {file}')


def require_one_point(runner) -> None:
    """Refuse to write the predictions of several points over one another."""
    points = [point.name for point in getattr(runner.test_loop, 'points', [])]
    if len(points) > 1:
        raise ValueError(
            f'predictions are those of one operating point: choose it with --points, '
            f'among {points}'
        )


def main() -> None:
    args = parse_args()

    import mmengine
    from mmengine.dist import is_main_process
    from mmengine.evaluator import DumpResults

    from mmdyn.engine.fitting_checkpoint_hook import FittingCheckpointHook
    from mmdyn.engine.runner import build_runner, load_config, refuse_empty_dataset

    cfg = load_config(args)
    merge_args(cfg, args)
    runner = build_runner(cfg)
    offer_found_points(runner, args.checkpoint)
    refuse_empty_dataset(runner, 'test_dataloader')
    runner.register_hook(FittingCheckpointHook())
    dump_predictions = args.out and args.out_item != 'metrics'
    if dump_predictions or args.show or args.show_dir:
        require_one_point(runner)
    if dump_predictions:
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
    metrics = runner.test()
    if args.out and not dump_predictions and is_main_process():
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
