"""Bottlenecks of ResNet-50, dense and at several shares of active positions."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from gpu_check.subjects import bottleneck
from gpu_check.timing import time_calls

STAGES = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels of the 3×3 convolution, and height and width of the maps."""
SHARES = (0.1, 0.3, 0.5, 0.7)
STREAM = 20
"""Calls of a stream, between two synchronisations."""


def jobs(args) -> dict:
    stages, batches = (((8, 10),), (1, 2)) if args.dry else (STAGES, (1, 64, 256))
    return {
        f'{size}×{size}×{4 * planes} batch {batch}': partial(
            _rows, args, planes, size, batch
        )
        for batch in batches
        for planes, size in stages
    }


@torch.no_grad()
def _rows(args, planes: int, size: int, batch: int) -> Iterator[dict]:
    x = torch.rand(batch, 4 * planes, size, size, device=args.device).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    # Blocks change their input: with a small branch it stays finite.
    make = partial(bottleneck, planes, branch=1e-3, like=x)
    calls = {'dense': partial(make(mask=None), x)}
    for share in SHARES:
        mask = torch.zeros_like(x[:, :1])
        mask[:, :, : max(1, round(share * size))] = 1
        calls[f'share={mask[0].float().mean():.2f}'] = partial(make(mask=mask), x)
    for mode, repeat in dict(single=1, streamed=STREAM).items():
        for name, time in time_calls(calls, args.seconds / 2, repeat).items():
            yield dict(mode=mode, block=name, **time)
    for name, call in calls.items():
        try:
            replay = graphed(call, args.dry)
        except RuntimeError as error:
            yield dict(mode='graphed', block=name, not_captured=str(error).split('\n')[0])
        else:
            time = time_calls(dict(eager=call, graph=replay), args.seconds / 4)
            yield dict(mode='graphed', block=name, **time['graph'])


def graphed(call: Callable, dry: bool) -> Callable:
    """The replay of a CUDA graph of a call; a RuntimeError says why there is none."""
    if dry:
        raise RuntimeError('a CPU has no CUDA graphs')
    torch.cuda.set_sync_debug_mode('error')  # gentler than a capture that fails
    try:
        call()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
