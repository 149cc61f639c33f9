"""Gather, product, bias, sum with the skip connection, ReLU and scatter in one kernel.

The patches are read straight into the tiles of the product: no gathered copy is written.
"""

import torch
import triton
import triton.language as tl

BLOCK_P, BLOCK_D, BLOCK_C = 64, 64, 32


@triton.jit
def _gather_gemm(
    source,
    index,
    matrix,
    bias,
    out,
    out_index,
    positions,
    rows,
    channels,
    outputs,
    matrix_stride_k,
    matrix_stride_d,
    TAPS: tl.constexpr,
    HAS_INDEX: tl.constexpr,
    HAS_OUT_INDEX: tl.constexpr,
    ADD: tl.constexpr,
    RELU: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    computed = p < positions
    sums = tl.zeros((BLOCK_P, BLOCK_D), dtype=tl.float32)
    for tap in range(TAPS):
        row = p
        if HAS_INDEX:
            row = tl.load(index + p * TAPS + tap, mask=computed, other=0)
        inside = computed & (row < rows)  # row == rows: a tap outside of the map
        for first in range(0, channels, BLOCK_C):
            c = first + tl.arange(0, BLOCK_C)
            patch = tl.load(
                source + row[:, None] * channels + c[None, :],
                mask=inside[:, None] & (c < channels)[None, :],
                other=0.0,
            )
            k = tap * channels + c
            weight = tl.load(
                matrix + k[:, None] * matrix_stride_k + d[None, :] * matrix_stride_d,
                mask=(c < channels)[:, None] & (d < outputs)[None, :],
                other=0.0,
            )
            sums = tl.dot(patch, weight, sums, input_precision=PRECISION)
    sums += tl.load(bias + d, mask=d < outputs, other=0.0).to(tl.float32)[None, :]
    target = p
    if HAS_OUT_INDEX:
        target = tl.load(out_index + p, mask=computed, other=0)
    places = out + target[:, None] * outputs + d[None, :]
    written = computed[:, None] & (d < outputs)[None, :]
    if ADD:
        sums += tl.load(places, mask=written, other=0.0).to(tl.float32)
    if RELU:
        sums = tl.maximum(sums, 0.0)
    tl.store(places, sums.to(out.dtype.element_ty), mask=written)


def launch(source, index, matrix, bias, out, out_index, add, relu) -> None:
    """Run the kernel; arguments as of ``gather_gemm`` in ``gather_gemm.py``."""
    positions = len(source) if index is None else len(index)
    channels, outputs = source.shape[1], out.shape[1]
    assert source.is_contiguous() and out.is_contiguous()
    grid = (triton.cdiv(positions, BLOCK_P), triton.cdiv(outputs, BLOCK_D))
    with torch.cuda.device_of(source):  # Triton launches on the current device
        _gather_gemm[grid](
            source,
            source if index is None else index,  # not read
            matrix,
            bias,
            out,
            source if out_index is None else out_index,  # not read
            positions,
            len(source),
            channels,
            outputs,
            *matrix.stride(),
            TAPS=1 if index is None else index.shape[1],
            HAS_INDEX=index is not None,
            HAS_OUT_INDEX=out_index is not None,
            ADD=add,
            RELU=relu,
            # As exact as the convolutions that it replaces.
            PRECISION='tf32' if torch.backends.cudnn.allow_tf32 else 'ieee',
            BLOCK_P=BLOCK_P,
            BLOCK_D=BLOCK_D,
            BLOCK_C=BLOCK_C,
        )
