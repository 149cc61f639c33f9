"""Validation and test data without common images, for searches and their reports."""

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def split_loaders(runner: Runner) -> tuple[DataLoader, DataLoader]:
    """Dataloaders of validation data and of test data, with no image in both.

    Of images that are both, every other one stays in the validation data and the rest in
    the test data, with a warning. Without test data, all images are both.

    Args:
        runner (Runner): A runner with a ``val_dataloader`` in its config.

    Returns:
        tuple[DataLoader, DataLoader]: The dataloaders.

    Raises:
        ValueError: If a dataset does not say which images it has.
    """
    cfgs = runner.cfg.val_dataloader, runner.cfg.get('test_dataloader')
    cfgs = cfgs[0], cfgs[1] or cfgs[0]
    search, report = (DATASETS.build(cfg.dataset) for cfg in cfgs)
    searched, reported = _images(search), _images(report)
    in_both = set(searched) & set(reported)
    shared = [image for image in searched if image in in_both]
    if shared:
        runner.logger.warning(
            f'{len(shared)} images are validation data and test data: searching on every '
            f'other one of them, reporting on the rest. Tests on all test data will '
            f'flatter what is found'
        )
        to_search = set(shared[::2])
        _leave_out(search, searched, set(shared) - to_search)
        _leave_out(report, reported, to_search)
    return tuple(
        Runner.build_dataloader({**cfg, 'dataset': dataset})
        for cfg, dataset in zip(cfgs, (search, report))
    )


def _images(dataset: BaseDataset) -> list:
    """What identifies the images of a dataset: their files, or else their pixels."""
    if not isinstance(dataset, BaseDataset):
        raise ValueError(
            f'a {type(dataset).__name__} does not say which images it has: images are '
            f'kept apart in datasets that are an mmengine.BaseDataset'
        )
    dataset.full_init()
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [i.get('img_path') or np.asarray(i['img']).tobytes() for i in infos]


def _leave_out(dataset: BaseDataset, images: list, unwanted: set) -> None:
    dataset.get_subset_([i for i, image in enumerate(images) if image not in unwanted])
