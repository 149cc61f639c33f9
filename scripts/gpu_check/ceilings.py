"""The ceilings of the device: a copy in its memory and a matrix product."""

import torch

from gpu_check.timing import time_calls


def jobs(args) -> dict:
    size, number = (128, 2**16) if args.dry else (8192, 2**30)

    def copy():
        source = torch.zeros(number, dtype=torch.uint8, device=args.device)
        target = torch.empty_like(source)
        time = time_calls(dict(it=lambda: target.copy_(source)), args.seconds, 10)['it']
        yield dict(gb_per_s=2 * number / time['ms'] / 1e6, **time)

    def product():
        a, b = torch.randn(2, size, size, device=args.device).bfloat16()
        time = time_calls(dict(it=lambda: a @ b), args.seconds, 10)['it']
        yield dict(tflop_per_s=2 * size**3 / time['ms'] / 1e9, **time)

    return {f'copy of {number} bytes': copy, f'{size}³ product bf16': product}
