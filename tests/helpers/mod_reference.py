"""Mixture-of-Depths, one channel of one sample at a time."""

import torch

from mmdyn.methods.mod.layer import MixtureOfDepths


@torch.no_grad()
def mod_by_loop(mod: MixtureOfDepths, x, process):
    """What a MoD block makes of the map x (N, C, H, W), untouched channels and all.

    ``process`` is the block's narrow branch, for one sample.
    """
    hidden, out = mod.selector.score[0].weight, mod.selector.score[2].weight
    expected = x.clone()
    for n in range(len(x)):
        means = x[n].mean(dim=(1, 2))
        scores = torch.sigmoid(out @ torch.relu(hidden @ means))
        ranked = sorted(range(len(scores)), key=lambda c: -scores[c].item())
        chosen = ranked[: mod.num_selected]
        processed = process(torch.stack([x[n, c] for c in chosen])[None])[0]
        for i, channel in enumerate(chosen):
            place = dict(first=i, last=len(scores) - len(chosen) + i, original=channel)
            expected[n, place[mod.fusion]] += scores[channel] * processed[i]
    return expected.relu() if mod.relu else expected


def in_bf16_and_by_loop(block, narrow, gradients):
    """A block's output in bf16, and what the loop makes of the same bf16 values.

    The block has 64 channels and reduction=1; ``narrow`` is its narrow branch.
    """
    x = separate_channels(block.mod, torch.rand(3, 64, 9, 9)).bfloat16()
    block.bfloat16()
    with torch.set_grad_enabled(gradients):
        got = block(x.clone())
    assert got.dtype == torch.bfloat16
    block.float()
    expected = mod_by_loop(block.mod, x.float(), narrow)
    assert (expected - x.float()).abs().max() > 0.2  # the block does something
    return got.float(), expected


def separate_channels(mod: MixtureOfDepths, x):
    """Scale channels, and let scores follow their means, so that rounding swaps none.

    Returns the map with a few channels, in places of their own for each sample, at
    1, 2, 4, … times the others' scale.
    """
    hidden, out = mod.selector.score[0].weight, mod.selector.score[2].weight
    assert hidden.shape == out.shape == (x.shape[1],) * 2, 'needs reduction=1'
    with torch.no_grad():
        hidden.copy_(torch.eye(x.shape[1]))
        out.copy_(torch.eye(x.shape[1]))
    x = x * 0.1
    for sample in x:
        chosen = torch.randperm(x.shape[1])[: mod.num_selected]
        sample[chosen] *= 5 * 1.5 ** torch.arange(len(chosen))[:, None, None]
    return x
