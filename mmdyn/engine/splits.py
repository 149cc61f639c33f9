"""Validation and test data without common images, for searches and their reports."""

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def split_loaders(runner: Runner) -> list[DataLoader]:
    """Dataloaders of a runner's validation data and test data, with no image in both.

    Of images that are both, every other one stays in the validation data and the rest in
    the test data, with a warning. Without test data, all images are both.

    Raises:
        ValueError: If a dataset does not say which images it has.
    """
    cfg = runner.cfg
    cfgs = cfg.val_dataloader, cfg.get('test_dataloader') or cfg.val_dataloader
    datasets = [DATASETS.build(cfg.dataset) for cfg in cfgs]
    searched, reported = map(_images, datasets)
    in_both = set(searched) & set(reported)
    if shared := [image for image in searched if image in in_both]:
        runner.logger.warning(
            f'{len(shared)} images are validation data and test data: searching on every '
            f'other one of them, reporting on the rest. Tests on all test data will '
            f'flatter what is found'
        )
        to_search = set(shared[::2])
        _leave_out(datasets[0], searched, in_both - to_search)
        _leave_out(datasets[1], reported, to_search)
    return [
        Runner.build_dataloader({**cfg, 'dataset': dataset})
        for cfg, dataset in zip(cfgs, datasets)
    ]


def _images(dataset: BaseDataset) -> list:
    """Image files of a dataset, or else the images' pixels."""
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
