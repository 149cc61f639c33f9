"""Train a model of any mmpretrain, mmseg or mmdet config.

example: python tools/train.py configs/multi_exit/resnet20_multi-exit_15e_digits.py
"""

import argparse
import sys

from mmdyn.utils.command_line import add_runner_arguments, tool_parser


def parse_args() -> argparse.Namespace:
    parser = tool_parser(__doc__, 'config')
    add_runner_arguments(parser)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the latest one in the work '
        'directory',
    )
    parser.add_argument(
        '--amp', action='store_true', help='train in automatic mixed precision'
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not evaluate during training'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch size over auto_scale_lr's base",
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start the loading workers anew each epoch',
    )
    return parser.parse_args()


def merge_args(cfg, args: argparse.Namespace) -> None:
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError('--auto-scale-lr needs auto_scale_lr in the config')
        cfg.auto_scale_lr.enable = True


def main() -> None:
    args = parse_args()

    from mmengine.runner import find_latest_checkpoint

    from mmdyn.engine.runner import build_runner, load_config

    cfg = load_config(args, persistent_workers=not args.no_persistent_workers)
    merge_args(cfg, args)
    loaders = ['train_dataloader']
    if cfg.get('val_dataloader'):
        loaders.append('val_dataloader')
    runner = build_runner(cfg, *loaders)
    try:
        runner.train()
    except KeyboardInterrupt:
        latest = find_latest_checkpoint(runner.work_dir)
        if latest is None:
            sys.exit('interrupted before the first checkpoint')
        print(
            f'interrupted; the last checkpoint is {latest}. Go on from it with --resume',
            file=sys.stderr,
        )
        sys.exit(130)


if __name__ == '__main__':
    main()
