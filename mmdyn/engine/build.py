"""A config's model, built without a runner, and inputs for it."""

import math
from importlib.util import find_spec
from pathlib import Path

import mmcv
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mmdyn.registry import INSTALL_HINT
from mmdyn.utils.packages import PACKAGES, check_packages, config_from_file


def read_config(path: str) -> Config:
    """Read a config file, or one of an installed package: ``mmpretrain::resnet/….py``.

    Raises:
        FileNotFoundError: If the package or the file does not exist.
        ImportError: If a package whose configs it is based on is missing.
    """
    # MMEngine's get_config would install a missing package, and asks for names of
    # distributions, which differ between the stacks.
    package, _, file = path.rpartition('::')
    if package:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            hint = f'. {INSTALL_HINT}' if package in PACKAGES else ''
            raise FileNotFoundError(f'{path}: no package {package!r} is installed{hint}')
        path = str(Path(spec.origin).parent / '.mim' / 'configs' / file)
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no config {path}')
    return config_from_file(path)


def build_model(cfg: Config) -> nn.Module:
    """Build a config's model for evaluation, without loading pretrained weights.

    Raises:
        ImportError: If a package that the config needs is missing.
    """
    check_packages(cfg)
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    settings = dict(cfg.model)
    if preprocessor := cfg.get('data_preprocessor'):  # as a runner does
        settings.setdefault('data_preprocessor', preprocessor)
    model = revert_sync_batchnorm(MODELS.build(settings))
    model.eval()
    return model


def image_channels(model: nn.Module) -> int:
    """Channels of the images that a model's first layer takes."""
    first = next(m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Unfold)))
    if isinstance(first, nn.Conv2d):
        return first.in_channels
    # A linear layer takes patches that were unfolded.
    linear = next(m for m in model.modules() if isinstance(m, nn.Linear))
    return linear.in_features // math.prod(first.kernel_size)


def random_images(model: nn.Module, batch_size: int, height: int, width: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1), with the device and type of the parameters."""
    parameter = next(model.parameters())
    shape = (batch_size, image_channels(model), height, width)
    return torch.rand(shape).to(parameter.device, parameter.dtype)


def forward_arguments(cfg: Config, height: int, width: int, batch_size: int = 1) -> dict:
    """Arguments of ``forward`` beside the images: detectors ask for their sizes."""
    if cfg.get('default_scope') != 'mmdet':
        return {}
    from mmdet.structures import DetDataSample

    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = dict.fromkeys(shapes, (height, width))
    sample = DetDataSample(metainfo=dict(**metainfo, scale_factor=(1.0, 1.0)))
    return dict(data_samples=[sample] * batch_size)


def read_image(file: str) -> np.ndarray:
    """An image file as (H, W, 3), RGB in 0…255; a ValueError if it is none."""
    image = mmcv.imread(file)
    if image is None:
        raise ValueError(f'{file} is not an image that OpenCV can read')
    return mmcv.bgr2rgb(image)


def prepared(cfg: Config, file: str) -> dict:
    """A batch of one image file, made by the config's test pipeline."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    steps = [step for step in pipeline if 'Annotations' not in step['type']]
    image = dict(img_path=file, img_id=0)
    if not any('Load' in step['type'] for step in steps):
        image['img'] = read_image(file)  # datasets of arrays, such as CIFAR's, are RGB
    return pseudo_collate([Compose(steps)(image)])
