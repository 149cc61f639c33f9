from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def test_both_splits_hold_every_digit_once(digits):
    source = load_digits()
    seen = {}
    for path in Path(digits).glob('*/*/*.png'):
        split, label, number = path.parts[-3], int(path.parts[-2]), int(path.stem)
        assert number not in seen and label == source.target[number]
        seen[number] = split
        pixels = np.asarray(Image.open(path), dtype=float) / 255 * 16
        assert np.abs(pixels - source.images[number]).max() < 0.04
    splits = list(seen.values())
    assert (splits.count('train'), splits.count('val')) == (1437, 360)


def test_split_is_stratified_and_the_same_each_time(digits):
    counts = [len(list(Path(digits, 'val', str(d)).iterdir())) for d in range(10)]
    totals = np.bincount(load_digits().target)
    assert np.abs(counts - totals * 360 / 1797).max() < 1
    # The first files of class 0: another split would be another benchmark.
    first = sorted(path.stem for path in Path(digits, 'val', '0').iterdir())[:3]
    assert first == ['0078', '0202', '0252']
