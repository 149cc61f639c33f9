"""The inference of a model with exits: samples that exit leave the batch."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmdyn.models.stages import Walk, cuttable, take


def run_to_exits(
    model, inputs: Tensor, finish: Callable = lambda exit, logits: logits
) -> tuple[Tensor, Tensor]:
    """Run images (N, C, H, W) through a ``MultiExitModel`` at its operating point.

    Returns logits (N, K, …) and the number (N,), from 1, of the exit that each image
    took. ``finish`` maps an exit's index, from 0, and its logits to those of one size.
    """
    settings = model.operating_point.settings
    if 'exit' not in settings:
        return _run_adaptively(model, inputs, finish)
    exit = settings['exit'] - 1
    parts = model.parts([exit], settings)
    draws = [
        finish(exit, model.logits_at(exit, next(Walk(parts, inputs))))
        for _ in range(cuttable(model.backbone).draws)
    ]
    logits = average_of_draws(draws)
    return logits, torch.full((len(logits),), exit + 1, device=logits.device)


def _run_adaptively(model, inputs: Tensor, finish: Callable) -> tuple[Tensor, Tensor]:
    point = model.operating_point
    waiting = torch.arange(len(inputs), device=inputs.device)  # indices of the images
    logits, places, exits, carried = [], [], [], None
    walk = model.walk(inputs, point.settings)
    for exit, features in enumerate(walk):
        scores = model.logits_at(exit, features)
        leaves = torch.ones_like(waiting, dtype=torch.bool)
        if exit < model.num_exits - 1:
            leaves, carried = model.policy(scores, exit, point, carried)
        places.append(waiting[leaves])
        exits.append(torch.full_like(places[-1], exit + 1))
        logits.append(finish(exit, scores[leaves]))
        if len(places[-1]) == len(waiting):
            break  # no samples remain
        if len(places[-1]):
            waiting, carried = waiting[~leaves], take(carried, ~leaves)
            walk.keep(~leaves)
    order = torch.cat(places).argsort()
    return torch.cat(logits)[order], torch.cat(exits)[order]


def average_of_draws(draws: list[Tensor]) -> Tensor:
    """Logits (N, K, …) of mean class probabilities; K = 1: one class against the rest."""
    if len(draws) == 1:
        return draws[0]
    logits = torch.stack(draws)
    # In logarithms: the mean of small probabilities must not become 0.
    if logits.shape[2] == 1:
        return logsigmoid(logits).logsumexp(0) - logsigmoid(-logits).logsumexp(0)
    return logits.log_softmax(dim=2).logsumexp(0) - math.log(len(draws))
