"""Write scikit-learn's handwritten digits as an ImageNet-style folder.

1,797 real 8×8 digits (UCI Optical Recognition of Handwritten Digits, test part), as
``train/<digit>/<number>.png`` and ``val/<digit>/<number>.png``: a fixed, stratified split
of 1,437 and 360. Nothing is downloaded; the images come with scikit-learn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

VAL_SHARE = 0.2
SEED = 0
BRIGHTEST = 16  # grey levels of the digits are 0…16


def write_split(directory: Path, images: np.ndarray, labels, numbers) -> None:
    """Write images under ``directory/<label>/<number>.png``."""
    for image, label, number in zip(images, labels, numbers):
        path = directory / str(label) / f'{number:04d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.round(image * (255 / BRIGHTEST)).astype(np.uint8)
        Image.fromarray(grey).save(path)


def convert(out: Path) -> dict[str, int]:
    """Write both splits; returns how many images each has."""
    digits = load_digits()
    splits = train_test_split(
        np.arange(len(digits.target)),
        test_size=VAL_SHARE,
        random_state=SEED,
        stratify=digits.target,
    )
    for name, numbers in zip(('train', 'val'), splits):
        write_split(out / name, digits.images[numbers], digits.target[numbers], numbers)
    return {name: len(numbers) for name, numbers in zip(('train', 'val'), splits)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog='example: python tools/dataset_converters/digits.py data/digits',
    )
    parser.add_argument('out', type=Path, help='folder to write, made if missing')
    out = parser.parse_args().out
    sizes = convert(out)
    print(f'{out}: {sizes["train"]} training and {sizes["val"]} validation images')


if __name__ == '__main__':
    main()
