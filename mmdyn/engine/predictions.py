"""Predictions of a config's model for image files, drawn by the config's visualizer."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer

from mmdyn.engine.build import build_model, prepared, read_image
from mmdyn.evaluation.cost import CostMeter
from mmdyn.evaluation.saved_points import load_operating_points
from mmdyn.operating_point import (
    at_operating_point,
    find_operating_points,
    trained_operating_points,
)
from mmdyn.utils.checkpoints import load_checkpoint_strictly
from mmdyn.visualization.predictions import Prediction, Row

READABLE = 224  # pixels: on shorter sides mmpretrain's text cannot be read


def predict_files(
    cfg: Config,
    checkpoint: str,
    files: Sequence[str],
    names: Sequence[str] | None = None,
    device: str = 'cpu',
    track: Callable[[Sequence], Sequence] = iter,
) -> list[Row]:
    """Predict for each image at each operating point.

    Args:
        cfg (Config): A config with ``visualizer`` and ``test_dataloader``.
        checkpoint (str): The weights; points saved beside them are offered.
        files (Sequence[str]): Image files.
        names (Sequence[str] | None): Names of the points; ``None``: all that are trained.
        device (str): Where to run, as torch names it.
        track (Callable): Wraps the pairs of image and point, to show progress.

    Returns:
        list[Row]: The images with their predictions.

    Raises:
        ValueError: If a file is not an image, the weights do not fit or the model does
            not offer a point.
    """
    rows = [Row(Path(file).name, read_image(file), {}) for file in files]
    model = build_model(cfg).to(device)
    weights = load_checkpoint_strictly(model, checkpoint)
    load_operating_points(model, checkpoint)
    points = trained_operating_points(model)
    if names is not None:
        points = find_operating_points(model, dict.fromkeys(names))
    visualizer = _visualizer(cfg, weights.get('meta', {}).get('dataset_meta') or {})
    for (row, file), point in track(list(product(zip(rows, files), points))):
        meter = CostMeter()
        with torch.no_grad(), at_operating_point(model, point), meter:
            (sample,) = model.test_step(prepared(cfg, file))
        picture = _drawn(visualizer, row.image, sample)
        row.predictions[point.name] = Prediction(picture, meter.macs)
    return rows


def _visualizer(cfg: Config, meta: dict) -> Visualizer:
    """The visualizer of the config, with names and colours of the classes.

    Args:
        cfg (Config): The config.
        meta (dict): What a trained checkpoint knows of its classes, also where only the
            folders of a dataset do. The test data are asked otherwise; lazily built
            datasets read no files.
    """
    settings = {'name': 'predictions', **cfg.visualizer}
    settings.pop('vis_backends', None)  # nothing is to be saved, nor uploaded
    visualizer = VISUALIZERS.build(settings)
    if 'classes' not in meta:
        dataset = {**cfg.test_dataloader.dataset, 'lazy_init': True}
        meta = DATASETS.build(dataset).metainfo
    visualizer.dataset_meta = meta
    return visualizer


def _drawn(
    visualizer: Visualizer, image: np.ndarray, sample: BaseDataElement
) -> np.ndarray:
    """The image (H, W, 3) with a prediction on it, as the visualizer draws it."""
    if hasattr(visualizer, 'visualize_cls'):  # mmpretrain's has no add_datasample
        enlargement = -(-READABLE // min(image.shape[:2]))
        pixels = mmcv.imrescale(image, enlargement, interpolation='nearest')
        style = dict(wrap=True)  # names of ImageNet's classes are long
        return visualizer.visualize_cls(pixels, sample, draw_gt=False, text_cfg=style)
    visualizer.add_datasample('', image, sample, draw_gt=False, show=False)
    return visualizer.get_image()
