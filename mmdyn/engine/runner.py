"""From command-line arguments to a runner: what the train and test tools share."""

import argparse
import atexit
import os
import sys
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdyn.engine.channels import check_channels
from mmdyn.engine.fitting_checkpoint_hook import FittingCheckpointHook
from mmdyn.engine.loss_hook import unwrapped
from mmdyn.utils.packages import check_packages, config_from_file


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that both tools take."""
    parser.add_argument(
        '--work-dir',
        help='where to write logs and results (default: ./work_dirs/<config name>)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings of the config, nested keys with dots: '
        'model.backbone.depth=34 "exits=[1,2]"',
    )
    parser.add_argument(
        '--no-pin-memory', action='store_true', help='do not pin memory when loading'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    # Old versions of torch.distributed.launch pass the rank as an argument.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config file and merge the arguments of :func:`add_launch_arguments`.

    ``--cfg-options`` are left to the caller, which merges them last.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = config_from_file(args.config)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def set_loader_defaults(cfg: Config, names: list[str], **defaults) -> None:
    """Fill in what the config's dataloaders do not say.

    mmpretrain's own tools collate batches into one tensor, while mmseg and mmdet, whose
    images differ in size, rely on MMEngine's default.
    """
    if cfg.get('default_scope') == 'mmpretrain':
        defaults['collate_fn'] = dict(type='default_collate')
    for name in names:
        if cfg.get(name) is None:
            continue
        loader = ConfigDict(deepcopy(defaults))
        if not cfg[name].get('num_workers'):
            loader.pop('persistent_workers', None)  # refused without workers
        loader.update(cfg[name])
        cfg[name] = loader


def use_pinned_memory(args: argparse.Namespace) -> bool:
    """Whether dataloaders should pin memory: it only serves a GPU."""
    return torch.cuda.is_available() and not args.no_pin_memory


def build_runner(cfg: Config) -> Runner:
    """Build the runner of a config, in distributed jobs also without an accelerator.

    Args:
        cfg (Config): The config.

    Returns:
        Runner: The runner.

    Raises:
        ImportError: If a package that the config needs is missing.
        ValueError: If the neck or heads do not take what the backbone gives.
    """
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # MMEngine's launcher and DDP wrapper take it for granted that there is a device
        # to set; started here, the process group is left as it is.
        torch.distributed.init_process_group('gloo')
        # Threads of gloo that still run when the interpreter ends can abort it.
        atexit.register(torch.distributed.destroy_process_group)
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}
    # MMEngine's logger writes to what is stdout while the runner is built; ours keeps
    # stdout for results.
    with redirect_stdout(sys.stderr):
        check_packages(cfg)
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    check_channels(unwrapped(runner.model))
    return runner


def refuse_empty_dataset(runner: Runner, name: str) -> None:
    """Build a dataloader of the runner now and make sure that it has something to load.

    Args:
        runner (Runner): The runner.
        name (str): ``'train_dataloader'``, ``'val_dataloader'`` or ``'test_dataloader'``.

    Raises:
        ValueError: If its dataset is empty; the message says where it looked.
    """
    try:
        size = len(getattr(runner, name).dataset)
    except ValueError as error:
        # What NumPy says when MMEngine's datasets put nothing together.
        if 'need at least one array to concatenate' not in str(error):
            raise
        size = 0
    if size == 0:
        dataset = runner.cfg[name].dataset
        places = [
            f'{key}={dataset[key]!r}'
            for key in ('data_root', 'ann_file', 'data_prefix')
            if dataset.get(key)
        ]
        raise ValueError(f'{name}.dataset is empty; it looked in {", ".join(places)}')


def runner_for_search(args: argparse.Namespace) -> Runner:
    """A runner with a checkpoint's weights, to search points on validation data.

    Args:
        args (argparse.Namespace): ``config``, ``checkpoint`` and those of
            :func:`add_launch_arguments`.

    Returns:
        Runner: The runner; points found before are not offered.

    Raises:
        ValueError: If the config has no validation data, or not all weights are there.
    """
    cfg = load_config(args)
    missing = [
        name
        for name in ('val_dataloader', 'val_evaluator', 'val_cfg')
        if cfg.get(name) is None
    ]
    if missing:
        raise ValueError(f'the search needs {", ".join(missing)} in {args.config}')
    cfg.load_from = args.checkpoint
    set_loader_defaults(
        cfg, ['val_dataloader', 'test_dataloader'], pin_memory=use_pinned_memory(args)
    )
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    runner = build_runner(cfg)
    refuse_empty_dataset(runner, 'val_dataloader')
    runner.register_hook(FittingCheckpointHook())
    runner.call_hook('before_run')
    runner.load_or_resume()
    return runner
