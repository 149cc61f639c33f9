"""The operator ``mmdyn::gather_gemm`` for GPUs, with its FLOP formula.

It is defined where Triton 3 is installed, and Triton imported only when it runs.
"""

from importlib.metadata import PackageNotFoundError, version

import torch


def _has_triton() -> bool:
    try:
        return int(version('triton').split('.')[0]) >= 3  # the kernel is written for 3
    except PackageNotFoundError:
        return False


HAS_TRITON = _has_triton()

_library = torch.library.Library('mmdyn', 'DEF')


def _define() -> None:
    from torch.utils.flop_counter import register_flop_formula

    _library.define(
        'gather_gemm(Tensor source, Tensor? index, Tensor matrix, Tensor bias, '
        'Tensor(a!) out, Tensor? out_index, bool add, bool relu) -> ()'
    )
    _library.impl('gather_gemm', _run, 'CompositeExplicitAutograd')
    register_flop_formula(torch.ops.mmdyn.gather_gemm)(_flops)


def _run(source, index, matrix, bias, out, out_index, add, relu) -> None:
    from mmdyn.methods.spatial.ops.triton_kernel import launch

    launch(source, index, matrix, bias, out, out_index, add, relu)


def _flops(source, index, matrix, *_, **__) -> int:
    """Two operations for each of positions × taps × channels × output channels."""
    positions = source[0] if index is None else index[0]
    depth, outputs = matrix
    return 2 * positions * depth * outputs


if HAS_TRITON:
    _define()
