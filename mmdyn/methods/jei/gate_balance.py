"""Class weights of the gates' targets, counted on validation data.

Jointly-Learned Exit and Inference for a Dynamic Neural Network: JEI-DNN, Regol et al.:
Appendix 9.6.
"""

from collections.abc import Iterable

import torch
from mmengine.dist import all_reduce

from mmdyn.methods.jei.objective import JointTraining
from mmdyn.utils.eval_mode import eval_mode


def balance_gates(model, objective: JointTraining, batches: Iterable) -> list[float]:
    """Weight the targets of each gate by how rare they are.

    The ``class_weights`` of the model's ``mmdyn.LearnedGatePolicy`` are set; in
    distributed training, ``batches`` are those of each rank.

    Returns:
        list[float]: Share of the images at which each gate should open.
    """
    counts = torch.zeros_like(model.policy.class_weights)
    with eval_mode(model):
        for batch in batches:
            data = model.data_preprocessor(batch, False)
            labels = torch.cat([s.gt_label for s in data['data_samples']])
            errors = objective.errors(model.logits_of_exits(data['inputs']), labels)
            targets = objective.gate_targets(errors)
            leave = targets.sum(dim=1)
            counts += torch.stack([targets.shape[1] - leave, leave], dim=1)
    all_reduce(counts)
    weights = counts.sum(dim=1, keepdim=True) / (2 * counts)
    weights[(counts == 0).any(dim=1)] = 1  # only one target: nothing to balance
    model.policy.class_weights.copy_(weights)
    return (counts[:, 1] / counts.sum(dim=1)).tolist()
