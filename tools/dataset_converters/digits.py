"""Write scikit-learn's handwritten digits in the form of ImageNet, Cityscapes or VOC.

1,797 real 8×8 digits (UCI Optical Recognition of Handwritten Digits, test part) in a
fixed, stratified split of 1,437 and 360. Nothing is downloaded; the images come with
scikit-learn. Layouts:

imagenet    to classify: train/<digit>/<number>.png and val/<digit>/<number>.png.
cityscapes  to segment: scenes of 3 to 6 digits, 200 to train and 80 to validate on.
voc         to detect: scenes of 2 to 4 digits, 100 in trainval of VOC2007 and 100 of
            VOC2012, 80 in test of VOC2007.

Scenes to train on show digits of the 1,437 (VOC trains on all of trainval), the others
digits of the 360. In scenes, digits go by names of the data set's own classes, so that
its stock configs run on the folder as they are:

digit       cityscapes     voc
0           road           aeroplane
1           sidewalk       bicycle
2           building       bird
3           wall           boat
4           fence          bottle
5           pole           bus
6           traffic light  car
7           traffic sign   cat
8           vegetation     chair
9           terrain        cow
background  sky            -

examples:
  python tools/dataset_converters/digits.py data/digits
  python tools/dataset_converters/digits.py data/digits-cityscapes --layout cityscapes
  python tools/dataset_converters/digits.py data/digits-voc --layout voc
"""

from pathlib import Path

import numpy as np
from digit_scenes import Digits
from PIL import Image
from scene_layouts import write_cityscapes, write_voc
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from mmdyn.utils.command_line import tool_parser

VAL_SHARE = 0.2
SEED = 0
BRIGHTEST = 16  # grey levels of the digits are 0…16


def load() -> tuple[Digits, Digits]:
    """The digits to train on and those held out."""
    digits = load_digits()
    splits = train_test_split(
        np.arange(len(digits.target)),
        test_size=VAL_SHARE,
        random_state=SEED,
        stratify=digits.target,
    )
    images = digits.images / BRIGHTEST
    return tuple(Digits(images[some], digits.target[some], some) for some in splits)


def write_split(directory: Path, digits: Digits) -> None:
    """Write digits under ``directory/<label>/<number>.png``."""
    for image, label, number in zip(*digits):
        path = directory / str(label) / f'{number:04d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(image * 255).astype(np.uint8)).save(path)


def write_imagenet(out: Path, train: Digits, held_out: Digits) -> dict[str, int]:
    """Write each digit as an image; returns how many images each split has."""
    write_split(out / 'train', train)
    write_split(out / 'val', held_out)
    return {'training': len(train.labels), 'validation': len(held_out.labels)}


LAYOUTS = {'imagenet': write_imagenet, 'cityscapes': write_cityscapes, 'voc': write_voc}


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument('out', type=Path, help='folder to write, made if missing')
    parser.add_argument(
        '--layout',
        choices=LAYOUTS,
        default='imagenet',
        help='form of the folder (default: %(default)s)',
    )
    args = parser.parse_args()
    sizes = LAYOUTS[args.layout](args.out, *load())
    images = ' and '.join(f'{number} {split}' for split, number in sizes.items())
    print(f'{args.out}: {images} images')


if __name__ == '__main__':
    main()
