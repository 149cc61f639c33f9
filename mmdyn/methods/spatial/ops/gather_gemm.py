"""Convolution at chosen positions: gather rows, multiply, scatter.

Feature maps are matrices here, one row for each position and one column for each channel:
the memory of a channels-last map. A convolution at P positions is then one matrix product
(GEMM) of the gathered (P, taps × channels) patches.
"""

import torch
from torch import Tensor

from mmdyn.methods.spatial.ops.triton_op import HAS_TRITON
from mmdyn.models.folding import FoldedConv

CHUNK = 2048
"""Positions per product on CPUs, few enough for their patches to stay in the caches."""


def gather_gemm(
    source: Tensor,
    index: Tensor | None,
    conv: FoldedConv,
    out: Tensor,
    out_index: Tensor | None = None,
    add: bool = False,
    relu: bool = False,
) -> None:
    """Compute a convolution at P positions and write them into ``out``.

    Args:
        source (Tensor): Rows (R, C) to convolve.
        index (Tensor | None): Row of each tap of each position, (P, taps) int64; R
            stands for zeros, outside of the map. ``None``: row p for position p.
        conv (FoldedConv): Weights of C to D channels.
        out (Tensor): Rows (Q, D), changed in place.
        out_index (Tensor | None): Distinct rows of the positions in ``out``, (P,) int64.
            ``None``: row p.
        add (bool): Add to the rows of ``out`` instead of replacing them.
        relu (bool): Clamp the sums at zero.
    """
    count = len(source) if index is None else len(index)
    if count == 0:
        return
    if source.is_cuda and HAS_TRITON:
        torch.ops.mmdyn.gather_gemm(
            source, index, conv.matrix, conv.bias, out, out_index, add, relu
        )
        return
    # Where every tap has a row there is nothing to fill with zeros.
    fill = index is not None and bool(index.max() == len(source))
    for start in range(0, count, CHUNK):
        chunk = slice(start, min(start + CHUNK, count))
        rows = source[chunk] if index is None else _gather(source, index[chunk], fill)
        in_place = out_index is None
        target = out[chunk] if in_place else out.index_select(0, out_index[chunk])
        if add:
            target += torch.addmm(conv.bias, rows, conv.matrix)
        else:
            torch.addmm(conv.bias, rows, conv.matrix, out=target)
        if relu:
            target.relu_()
        if not in_place:
            out.index_copy_(0, out_index[chunk], target)


def _gather(source: Tensor, index: Tensor, fill: bool) -> Tensor:
    """Patches (P, taps * C) of the rows at ``index`` (P, taps)."""
    flat = index.flatten()
    if not fill:
        return source.index_select(0, flat).view(len(index), -1)
    rows = source.index_select(0, flat.clamp(max=len(source) - 1))
    rows.index_fill_(0, (flat == len(source)).nonzero().squeeze(1), 0)
    return rows.view(len(index), -1)
