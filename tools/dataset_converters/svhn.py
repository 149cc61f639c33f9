"""Write the cropped digits of SVHN as an ImageNet-style folder.

Reads train_32x32.mat and test_32x32.mat (format 2 of Street View House Numbers, Netzer et
al., 2011) and writes their 99,289 images of 32×32 as ``train/<digit>/<number>.png``,
``val/…`` and ``test/…``. The last images of the training file, as many as 5 % of both
files, are to validate on: 68,293, 4,964 and 26,032 images. (JEI-DNN, Regol et al., ICLR
2024, appendix 9.1.1: 68.6 %, 5 % and 26.2 %.) Nothing is downloaded.

example: python tools/dataset_converters/svhn.py data/svhn --mat-dir downloads
"""

from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track
from scipy.io import loadmat

from mmdyn.utils.command_line import exit_on, tool_parser

VAL_SHARE = 0.05
HOME = 'http://ufldl.stanford.edu/housenumbers/'
FILES = {'train': 'train_32x32.mat', 'test': 'test_32x32.mat'}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images of shape (N, 32, 32, 3) and their digits, 0…9, of one file."""
    content = loadmat(path)
    images = np.moveaxis(content['X'], -1, 0)  # H, W, C, N → N, H, W, C
    labels = content['y'].ravel() % 10  # the files call a zero 10
    return images, labels


def split(train: int, test: int) -> dict[str, range]:
    """Numbers of the images of each split, in the file they come from.

    Args:
        train (int): Images in the training file.
        test (int): Images in the test file.
    """
    # Digits of one house follow each other: cut in one place, they stay together.
    first_val = train - round(VAL_SHARE * (train + test))
    return {
        'train': range(first_val),
        'val': range(first_val, train),
        'test': range(test),
    }


def write_split(directory: Path, images: np.ndarray, labels, numbers) -> None:
    """Write the images of some numbers under ``directory/<label>/<number>.png``."""
    for label in range(10):
        (directory / str(label)).mkdir(parents=True, exist_ok=True)
    # Progress goes to stderr, as logs do.
    console = Console(stderr=True)
    for number in track(numbers, description=directory.name, console=console):
        path = directory / str(labels[number]) / f'{number:05d}.png'
        Image.fromarray(images[number]).save(path)


def convert(mat_dir: Path, out: Path) -> dict[str, int]:
    """Write all splits; returns how many images each has.

    Raises:
        FileNotFoundError: If a file is missing; the message says where to get it.
    """
    missing = [name for name in FILES.values() if not (mat_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f'{" and ".join(missing)} not found in {mat_dir}: download them from {HOME} '
            f'(format 2, cropped digits) and name their folder with --mat-dir'
        )
    train, test = (read(mat_dir / name) for name in FILES.values())
    numbers = split(len(train[0]), len(test[0]))
    for name, some in numbers.items():
        write_split(out / name, *(test if name == 'test' else train), some)
    return {name: len(some) for name, some in numbers.items()}


def main() -> None:
    parser = tool_parser(__doc__)
    parser.add_argument('out', type=Path, help='folder to write, made if missing')
    parser.add_argument(
        '--mat-dir',
        type=Path,
        metavar='DIR',
        help=f'folder of {" and ".join(FILES.values())} (default: OUT)',
    )
    args = parser.parse_args()
    with exit_on(FileNotFoundError):
        sizes = convert(args.mat_dir or args.out, args.out)
    print(
        f'{args.out}: {sizes["train"]} training, {sizes["val"]} validation and '
        f'{sizes["test"]} test images'
    )


if __name__ == '__main__':
    main()
