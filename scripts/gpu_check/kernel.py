"""The Triton kernel against float64, and sparse blocks against masked ones."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gpu_check.subjects import HAS_TRITON, bottleneck, gather_gemm


class Shape(NamedTuple):
    """A convolution at some positions; without taps, position p has row p alone."""

    positions: int
    taps: int | None
    channels: int
    outputs: int
    scattered: bool = False
    add: bool = False
    relu: bool = False


SHAPES = {
    'first 1×1': Shape(20000, 1, 256, 64, relu=True),
    '3×3': Shape(16000, 9, 64, 64, relu=True),
    'last 1×1': Shape(16000, None, 64, 256, scattered=True, add=True, relu=True),
    'last 3×3': Shape(8000, 9, 128, 128, scattered=True, add=True, relu=True),
    'deep 3×3': Shape(500, 9, 512, 512, relu=True),
    'odd sizes': Shape(1999, 9, 20, 33, scattered=True),
    'one position': Shape(1, 9, 16, 8, add=True),
}
PRECISIONS = dict(  # type, whether TF32 is allowed, and the largest error
    fp32=(torch.float32, False, 1e-5),
    tf32=(torch.float32, True, 8e-3),  # 10 bits of the factors
    bf16=(torch.bfloat16, False, 5e-3),  # 7 bits of the output
)
BLOCKS = dict(fp32=(torch.float32, 1e-4), bf16=(torch.bfloat16, 5e-2))


def jobs(args) -> dict:
    kernel = {
        f'kernel {precision} {name}': partial(_check_kernel, args, precision, shape)
        for precision in PRECISIONS
        for name, shape in SHAPES.items()
    }
    return kernel | {f'blocks {p}': partial(_check_blocks, args, p) for p in BLOCKS}


def _check_kernel(args, precision: str, shape: Shape) -> Iterator[dict]:
    dtype, tf32, tolerance = PRECISIONS[precision]
    if not HAS_TRITON or (args.dry and precision == 'bf16'):
        yield dict(skipped='the interpreter has no bf16' if HAS_TRITON else 'no Triton')
        return
    if args.dry:
        sizes = dict(positions=70, channels=40, outputs=72)
        shape = shape._replace(**{k: min(v, getattr(shape, k)) for k, v in sizes.items()})
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32):
        error = kernel_error(gather_gemm, shape, dtype, args.device)
    yield from judged(error, tolerance)


def kernel_error(kernel: Callable, shape: Shape, dtype, device: str) -> float:
    """The largest error of ``kernel``, which takes the arguments of gather_gemm."""
    positions, taps, channels, outputs, scattered, add, relu = shape
    options = dict(device=device, dtype=dtype)
    rows, depth = (
        positions if taps is None else positions // 2 + 3,
        (taps or 1) * channels,
    )
    source, bias = torch.randn(rows, channels, **options), torch.randn(outputs, **options)
    matrix = (torch.randn(outputs, depth, **options) / depth**0.5).t()
    out = torch.randn(positions + 9, outputs, **options)
    index = targets = None
    if taps:  # row number `rows` is a tap outside of the map
        index = torch.randint(rows + 1, (positions, taps), device=device)
    if scattered:
        targets = torch.randperm(len(out), device=device)[:positions]

    patches, expected = source.double(), out.double()
    if taps:
        patches = torch.cat([patches, patches.new_zeros(1, channels)])[index].flatten(1)
    written = slice(positions) if targets is None else targets
    sums = patches @ matrix.double() + bias.double() + add * expected[written]
    expected[written] = sums.relu() if relu else sums
    kernel(source, index, matrix, bias, out, targets, add, relu)
    return _error(out, expected)


def _error(got: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to 1 + the size of what is expected."""
    difference = (got.double() - expected.double()).abs() / (1 + expected.double().abs())
    return difference.nan_to_num(torch.inf).max().item()


@torch.no_grad()
def _check_blocks(args, precision: str) -> Iterator[dict]:
    dtype, tolerance = BLOCKS[precision]
    planes, size = (4, 9) if args.dry else (64, 57)
    for share in (0.1, 0.3, 0.7, 1.0):
        x = torch.rand(3, 4 * planes, size, size + 1, device=args.device).to(dtype)
        mask = (torch.rand_like(x[:, :1]) < share).to(dtype)
        block = bottleneck(planes, mask, branch=1.0, like=x)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            sparse = block(x.clone())  # blocks change their input
            block.execution = 'masked'
            error = _error(sparse, block(x))
        yield from judged(error, tolerance, share=share)


def judged(error: float, tolerance: float, **others) -> Iterator[dict]:
    """The row of a comparison; raises behind it where the error is too large."""
    yield dict(error=error, tolerance=tolerance, **others)
    if not error <= tolerance:
        raise ArithmeticError(
            f'wrong results: error {error:.3g}, allowed {tolerance:.3g}'
        )
