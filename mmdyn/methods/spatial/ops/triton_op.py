"""The operator ``mmdyn::gather_gemm`` for GPUs, with its FLOP formula.

It is defined where Triton 3 is installed, and Triton imported only when it runs.
"""

from importlib.metadata import PackageNotFoundError, version

import torch

try:
    HAS_TRITON = int(version('triton').split('.')[0]) >= 3  # the kernel is written for 3
except PackageNotFoundError:
    HAS_TRITON = False

_library = torch.library.Library('mmdyn', 'DEF')


def _run(*arguments) -> None:
    from mmdyn.methods.spatial.ops.triton_kernel import launch

    launch(*arguments)


def _flops(source, index, matrix, *_, **__) -> int:
    """Two operations for each of positions × taps × channels × output channels."""
    positions = source[0] if index is None else index[0]
    depth, outputs = matrix
    return 2 * positions * depth * outputs


if HAS_TRITON:
    from torch.utils.flop_counter import register_flop_formula

    _library.define(
        'gather_gemm(Tensor source, Tensor? index, Tensor matrix, Tensor bias, '
        'Tensor(a!) out, Tensor? out_index, bool add, bool relu) -> ()'
    )
    _library.impl('gather_gemm', _run, 'CompositeExplicitAutograd')
    register_flop_formula(torch.ops.mmdyn.gather_gemm)(_flops)
