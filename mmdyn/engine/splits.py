"""Images to choose something by, and others to report on what came of it."""

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import DataLoader


def split_loaders(runner: Runner) -> tuple[DataLoader, DataLoader]:
    """Dataloaders of validation data and of test data, with no image in both.

    Of images that are both, every other one is left to the validation data, with a
    warning, and the rest to the test data. Without test data, all are both.

    Args:
        runner (Runner): A runner with a ``val_dataloader`` in its config.

    Returns:
        tuple[DataLoader, DataLoader]: The dataloaders.

    Raises:
        ValueError: If a dataset does not say which images it has.
    """
    search_cfg, report_cfg = runner.cfg.val_dataloader, runner.cfg.get('test_dataloader')
    if report_cfg is None:
        report_cfg = search_cfg
    search = DATASETS.build(search_cfg.dataset)
    report = DATASETS.build(report_cfg.dataset)
    searched, reported = _images(search), _images(report)
    in_both = set(searched) & set(reported)
    shared = [image for image in searched if image in in_both]
    if shared:
        runner.logger.warning(
            f'{len(shared)} images are validation data and test data: searching on every '
            f'other one of them, reporting on the rest. Tests on all test data will '
            f'flatter what is found'
        )
        # Of those that are in both, half is for the search alone.
        to_search = set(shared[::2])
        to_report = set(shared) - to_search
        _keep(search, [image not in to_report for image in searched])
        _keep(report, [image not in to_search for image in reported])
    return (
        Runner.build_dataloader({**search_cfg, 'dataset': search}),
        Runner.build_dataloader({**report_cfg, 'dataset': report}),
    )


def _images(dataset: BaseDataset) -> list:
    """What tells the images of a dataset apart: their files, or what they show."""
    if not isinstance(dataset, BaseDataset):
        raise ValueError(
            f'a {type(dataset).__name__} does not say which images it has: images are '
            f'kept apart in datasets that are an mmengine.BaseDataset'
        )
    dataset.full_init()
    images = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        images.append(info.get('img_path') or np.asarray(info['img']).tobytes())
    return images


def _keep(dataset: BaseDataset, wanted: list[bool]) -> None:
    dataset.get_subset_([index for index, keep in enumerate(wanted) if keep])
