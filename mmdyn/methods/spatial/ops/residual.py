"""Dense and sparse execution of a masked residual block with folded norms.

Both functions compute relu(skip + mask × branch(x)) and write it over ``skip``.
"""

from torch import Tensor

from mmdyn.methods.spatial.ops.gather_gemm import gather_gemm
from mmdyn.methods.spatial.ops.positions import dense_rows, numbered_rows, tap_rows
from mmdyn.models.folding import FoldedConv


def dense_residual(
    x: Tensor, skip: Tensor, mask: Tensor, convs: list[FoldedConv]
) -> Tensor:
    """Compute every position of the branch; arguments as of :func:`sparse_residual`."""
    for conv in convs[:-1]:
        x = conv(x).relu_()
    return skip.addcmul_(convs[-1](x), mask).relu_()


def sparse_residual(
    x: Tensor, skip: Tensor, read_mask: Tensor, mask: Tensor, convs: list[FoldedConv]
) -> Tensor:
    """Compute the branch at the active positions alone; the result is channels last.

    Args:
        x (Tensor): Input of the branch, (N, C, H, W), the output of a ReLU.
        skip (Tensor): Skip connection, (N, D, H', W'). Where it is ``x`` itself, only
            active positions are touched.
        read_mask (Tensor): Ones where the second convolution reads, (N, 1, H'', W'').
        mask (Tensor): Ones at the active positions, (N, 1, H', W').
        convs (list[FoldedConv]): A convolution, a 3×3 one and perhaps a 1×1; a ReLU
            follows each but the last.
    """
    read, active = (m.flatten().nonzero().squeeze(1) for m in (read_mask, mask))
    first, second, *third = convs
    identity = skip is x
    skip_rows = _rows(skip)
    rows = skip_rows if identity else _rows(x)
    # One more row, of zeros, stands for everything outside of the map.
    hidden = x.new_empty(len(read) + 1, len(first.weight))
    hidden[-1] = 0
    gather_gemm(rows, _taps(first, x, read), first, hidden, relu=True)

    numbers = numbered_rows(read, (len(x), *read_mask.shape[2:]))
    conv = second.conv
    taps = tap_rows(numbers, active, conv.stride[0], conv.dilation[0], len(read))
    if third:
        middle = x.new_empty(len(active), len(second.weight))
        gather_gemm(hidden, taps, second, middle, relu=True)
        hidden, taps = middle, None
    gather_gemm(hidden, taps, convs[-1], skip_rows, active, add=True, relu=identity)
    n, channels, height, width = skip.shape
    out = skip_rows.view(n, height, width, channels).permute(0, 3, 1, 2)
    return out if identity else out.relu_()


def _rows(x: Tensor) -> Tensor:
    """A map as a matrix (N * H * W, C); a view if it is channels last."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _taps(conv: FoldedConv, x: Tensor, positions: Tensor) -> Tensor:
    """Rows of x that a convolution reads for its outputs at ``positions``."""
    stride, dilation = conv.conv.stride[0], conv.conv.dilation[0]
    if conv.conv.kernel_size[0] == 3:
        rows = dense_rows(x.shape, x.device)
        return tap_rows(rows, positions, stride, dilation, outside=rows.numel())
    if stride > 1:
        strided = dense_rows(x.shape, x.device)[:, ::stride, ::stride].reshape(-1)
        positions = strided.index_select(0, positions)
    return positions[:, None]
