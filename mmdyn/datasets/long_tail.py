"""Long-tailed CIFAR: the classes of the training split shrink exponentially.

Class-Balanced Loss, Cui et al., CVPR 2019, in the form of LDAM, Cao et al., NeurIPS 2019.
JEI-DNN, Regol et al., ICLR 2024, has an imbalance of 100 (appendix 9.1.1).
"""

import math
from collections import defaultdict
from hashlib import blake2b

import numpy as np
from mmpretrain.datasets import CIFAR10, CIFAR100

from mmdyn.registry import DATASETS


def exponential_profile(largest: int, num_classes: int, imbalance: float) -> list[int]:
    """Images of each class: n_k = n_max · (1 / imbalance)^(k / (K − 1)), rounded down.

    Args:
        largest (int): n_max, images of class 0.
        num_classes (int): K, 2 or more.
        imbalance (float): Size of class 0 over that of class K − 1, 1 or more.

    Returns:
        list[int]: n_k of k = 0 … K − 1.
    """
    if not imbalance >= 1:
        sizes = 'the largest class over the smallest'
        raise ValueError(f'imbalance, {sizes}, must be 1 or more, got {imbalance}')
    sizes = (largest / imbalance ** (k / (num_classes - 1)) for k in range(num_classes))
    # Floating point must not take an image from a class of a whole size.
    return [math.floor(size + 1e-9) for size in sizes]


class LongTailMixin:
    """A CIFAR dataset with a long-tailed training split; the test split stays balanced.

    Which images are kept depends only on their pixels and the seed; a larger imbalance
    keeps a subset of those that a smaller one keeps. They stay in the order of the files,
    so ``indices`` holds out a random part.

    Args:
        imbalance (float): Size of the most common class over that of the least common
            one, 1 or more. Defaults to 100.
        seed (int): Another seed keeps other images. Defaults to 0.
        **kwargs: Arguments of the mmpretrain dataset.

    Raises:
        ValueError: If the imbalance is less than 1.
    """

    def __init__(self, *args, imbalance: float = 100, seed: int = 0, **kwargs):
        exponential_profile(1, 2, imbalance)  # refuses it before data are loaded
        self.imbalance = imbalance
        self.seed = seed
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        images = super().load_data_list()
        if self.split != 'train':
            return images
        places = defaultdict(list)
        for place, image in enumerate(images):
            places[image['gt_label']].append(place)
        largest = max(map(len, places.values()))
        sizes = exponential_profile(largest, len(places), self.imbalance)
        kept = []
        for label, size in enumerate(sizes):
            ranked = sorted(places[label], key=lambda i: self._rank(images[i]['img']))
            kept += ranked[:size]
        return [images[place] for place in sorted(kept)]

    def _rank(self, image: np.ndarray) -> bytes:
        """Sort key of an image: pseudo-random, and the same on every machine."""
        return blake2b(image.tobytes(), key=str(self.seed).encode()).digest()


@DATASETS.register_module()
class CIFAR10LT(LongTailMixin, CIFAR10):
    """Long-tailed CIFAR-10: 12,406 training images at an imbalance of 100.

    Its arguments are those of :class:`LongTailMixin`.
    """


@DATASETS.register_module()
class CIFAR100LT(LongTailMixin, CIFAR100):
    """Long-tailed CIFAR-100: 10,847 training images at an imbalance of 100.

    Its arguments are those of :class:`LongTailMixin`.

    Example:
        >>> train_dataloader = dict(
        ...     dataset=dict(type='mmdyn.CIFAR100LT', imbalance=100))
    """
