"""How the stages of any backbone are compared with the backbone itself."""

import torch
from helpers.reference import outputs_of, randomize_norms

from mmdyn.models.stages import cut_into_blocks, cut_into_stages


def assert_stages_in_a_row_are_the_backbone(backbone):
    randomize_norms(backbone)
    x = torch.rand(2, 3, 64, 64)
    expected = outputs_of(backbone, x)
    stages = cut_into_stages(backbone)
    assert len(stages) == len(expected)
    for stage, features in zip(stages, expected):
        with torch.no_grad():
            x = stage.forward(x)
        assert torch.equal(stage.features(x), features)
        assert features.shape[1] == stage.out_channels
        if features.dim() == 4:
            assert 64 // features.shape[2] == stage.stride
    return features


def assert_stages_train_what_the_backbone_trains(backbone):
    backbone.train()  # not chained: mmpretrain's do not return the model
    image, gradients = torch.rand(4, 3, 32, 32), []
    for in_stages in (False, True):
        torch.manual_seed(0)
        x = image
        if in_stages:
            for stage in cut_into_stages(backbone):
                x = stage.forward(x)
            x = stage.features(x)
        else:
            x = backbone(x)[-1]
        backbone.zero_grad()
        x.square().mean().backward()
        gradients.append({n: p.grad for n, p in backbone.named_parameters()})
    for name, gradient in gradients[0].items():
        assert (gradient is None) == (gradients[1][name] is None), name
        if gradient is not None:
            torch.testing.assert_close(gradient, gradients[1][name])
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {n for n, g in gradients[0].items() if g is not None}


def assert_blocks_in_a_row_are_the_backbone(backbone, channels):
    randomize_norms(backbone)
    x = torch.rand(2, 3, 64, 64)
    expected = outputs_of(backbone, x)[-1]
    blocks = cut_into_blocks(backbone)
    for block in blocks:
        x = block.forward(x)
        assert x.shape[1] == block.out_channels
        assert x.shape[2] * block.stride == 64
    torch.testing.assert_close(x, expected, rtol=0, atol=0)
    assert [block.out_channels for block in blocks] == channels
