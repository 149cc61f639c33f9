"""The runner of a config and command-line arguments."""

import argparse
import atexit
import gc
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmdyn.engine.channels import check_channels
from mmdyn.engine.fitting_checkpoint_hook import FittingCheckpointHook
from mmdyn.engine.loss_hook import unwrapped
from mmdyn.utils.packages import check_packages, config_from_file


def load_config(args: argparse.Namespace, **loader_defaults) -> Config:
    """Read a config file and merge command-line arguments into it.

    Args:
        args (argparse.Namespace): ``config`` and those of ``add_runner_arguments``.
        **loader_defaults: Settings for dataloaders that do not have them.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = config_from_file(args.config)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    merge_cfg_options(cfg, args.cfg_options)
    # Pinned memory only serves a GPU.
    pin_memory = torch.cuda.is_available() and not args.no_pin_memory
    _set_loader_defaults(cfg, pin_memory=pin_memory, **loader_defaults)
    return cfg


def merge_cfg_options(cfg: Config, options: list[str]) -> None:
    """Merge ``KEY=VALUE`` settings into a config, their values parsed by MMEngine."""
    parsed = argparse.Namespace(options=None)
    DictAction([], dest='options')(None, parsed, options)
    cfg.merge_from_dict(parsed.options)


def _set_loader_defaults(cfg: Config, **defaults) -> None:
    if cfg.get('default_scope') == 'mmpretrain':  # as its own tools do
        defaults['collate_fn'] = dict(type='default_collate')
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name) or {}
        for key, value in defaults.items():
            # Persistent workers are refused where there are no workers.
            if key != 'persistent_workers' or loader.get('num_workers'):
                loader.setdefault(key, value)


def require_settings(cfg: Config, user: str, *names: str) -> None:
    """Refuse a config without these settings; ``user`` is, say, 'the search needs'."""
    missing = [name for name in names if cfg.get(name) is None]
    if missing:
        raise ValueError(f'{user} {", ".join(missing)} in {cfg.filename}')


def build_runner(cfg: Config, *loaders: str) -> Runner:
    """Build the runner of a config, in distributed jobs also without an accelerator.

    The ``loaders``, such as ``'train_dataloader'``, must not be empty.

    Raises:
        ImportError: If a package that the config needs is missing.
        ValueError: If neck or heads do not fit the backbone, or a dataset is empty.
    """
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        _use_gloo(cfg)
    # MMEngine's logger keeps writing to the stdout of this moment; ours is for results.
    with redirect_stdout(sys.stderr):
        check_packages(cfg)
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    check_channels(unwrapped(runner.model))
    for name in loaders:
        refuse_empty_dataset(runner, name)
    return runner


def _use_gloo(cfg: Config) -> None:
    """Start a distributed job on CPUs: MMEngine's launcher asks for a device to set."""
    if not torch.distributed.is_initialized():  # a job has one, for all its runners
        torch.distributed.init_process_group('gloo')
        atexit.register(_stop_gloo)
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}


def _stop_gloo() -> None:
    """End the threads of gloo, which can abort the process while Python shuts down."""
    torch.distributed.destroy_process_group()
    gc.collect()  # the DDP wrapper in the runner, which keeps the group


def refuse_empty_dataset(runner: Runner, name: str) -> None:
    """Build a dataloader of the runner; a ValueError says where an empty one looked."""
    try:
        if len(getattr(runner, name).dataset) > 0:
            return
    except ValueError as error:
        # Of NumPy, when MMEngine's datasets put nothing together.
        if 'need at least one array to concatenate' not in str(error):
            raise
    dataset = runner.cfg[name].dataset
    keys = ('data_root', 'ann_file', 'data_prefix')
    places = [f'{key}={dataset[key]!r}' for key in keys if dataset.get(key)]
    raise ValueError(f'{name}.dataset is empty; it looked in {", ".join(places)}')


def load_whole_checkpoint(runner: Runner) -> None:
    """Load the runner's ``load_from``; a ValueError if it does not fill the model."""
    runner.register_hook(FittingCheckpointHook())
    runner.call_hook('before_run')
    runner.load_or_resume()


def runner_for_search(args: argparse.Namespace) -> Runner:
    """A runner with the weights of ``args.checkpoint``, to search on validation data.

    Raises:
        ValueError: If the config has no validation data, or the weights do not fit.
    """
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    settings = ('val_dataloader', 'val_evaluator', 'val_cfg')
    require_settings(cfg, 'the search needs', *settings)
    runner = build_runner(cfg, 'val_dataloader')
    load_whole_checkpoint(runner)
    return runner
