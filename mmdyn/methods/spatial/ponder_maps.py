"""Ponder maps: the positions of an image that each block computed."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mmdyn.methods.spatial.block import hooked_mask_units
from mmdyn.visualization.style import new_figure

COLUMNS = 8


@contextmanager
def recorded_masks(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the latest mask (N, 1, H, W) of each block, inside a ``with`` block."""
    masks: dict[str, Tensor] = {}

    def keep(name: str, block, unit, inputs, mask: Tensor) -> None:
        masks[name] = mask.detach().float().cpu()

    with hooked_mask_units(model, keep):
        yield masks


def summed_maps(masks: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Number of blocks, by masks (1, 1, H, W), that computed each pixel of an image."""
    maps = [functional.interpolate(mask, size, mode='nearest') for mask in masks.values()]
    return torch.cat(maps).sum(dim=(0, 1))


def draw_ponder_maps(
    image: np.ndarray, masks: dict[str, Tensor], path: str | Path, title: str
) -> None:
    """Draw an image (H, W, 3), RGB, the sum of its masks, and the mask of each block.

    The masks are (1, 1, H, W); the suffix of the path tells the format.
    """
    columns = min(COLUMNS, max(3, len(masks)))
    rows = -(-len(masks) // columns)
    figure = new_figure(1.6 * columns, 3.2 + 1.9 * rows, dpi=120)
    top, bottom = figure.subfigures(2, 1, height_ratios=(2.8, 1.9 * rows))
    whole, summed = top.subplots(1, 2)
    whole.imshow(image)
    whole.set_title('image', fontsize=9)
    # A network may see a larger image than the file has.
    sizes = [image.shape[:2], *(mask.shape[2:] for mask in masks.values())]
    total = summed_maps(masks, max(sizes, key=math.prod))
    counts = summed.imshow(total, cmap='gray', vmin=0, vmax=len(masks))
    summed.set_title('sum of the blocks', fontsize=9)
    top.colorbar(counts, ax=summed, label=f'blocks, of {len(masks)}')
    panels = bottom.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, mask) in zip(panels, masks.items()):
        axes.imshow(mask[0, 0], cmap='gray', vmin=0, vmax=1)
        block = '.'.join(name.split('.')[-2:])
        axes.set_title(f'{block}: {mask.mean():.0%}', fontsize=9)
    for axes in (whole, summed, *panels):
        axes.set(xticks=[], yticks=[])
    for axes in panels[len(masks) :]:
        axes.set_axis_off()
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)
