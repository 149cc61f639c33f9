import torch

from mmdyn.methods.mod.layer import ChannelSelector


def test_selects_the_highest_scores_of_each_sample():
    selector = ChannelSelector(48, 5, reduction=1)
    # Scores are means of other channels, far apart, so that rounding swaps none.
    for weight in selector.parameters():
        weight.data = torch.eye(48)[torch.randperm(48)]
    means = torch.stack([torch.randperm(48) / 48 for _ in range(4)])
    x = means[:, :, None, None] + torch.rand(4, 48, 3, 3) / 1000
    selected, scores, index = selector(x)
    assert selected.shape == (4, 5, 3, 3) and scores.shape == (4, 5, 1, 1)
    every = selector.score(x.mean((2, 3))).sigmoid()
    for n in range(4):
        order = sorted(range(48), key=lambda c: -every[n, c].item())[:5]
        assert torch.equal(selected[n], x[n, order])
        torch.testing.assert_close(scores[n, :, 0, 0], every[n, order])
        assert index[n, :, 2, 1].tolist() == order


def test_hidden_layer_has_the_papers_reduction_and_no_bias():
    weights = [p.shape for p in ChannelSelector(256, 4).parameters()]
    assert weights == [(16, 256), (256, 16)]
