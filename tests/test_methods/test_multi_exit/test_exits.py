import pytest
import torch
from helpers.configs import paper

from mmdyn import count_macs
from mmdyn.methods.multi_exit.exits import LinearExit, SEBottleneckExit
from mmdyn.models.stages import Stage

# ResNet-18 on ImageNet: channels and stride of stages 1 to 3, and GMACs to their ends.
STAGES = {1: (64, 4, 0.580), 2: (128, 8, 0.991), 3: (256, 16, 1.402)}
# GMACs of Table II, backbone and branch, for a branch of each level at stages 1 to 3.
TABLE_II = {
    stage: {
        int(levels[stage - 1]): row['gmacs'][stage - 1]
        for levels, row in paper('multi_exit')['table_ii']['resnet18'].items()
        if levels != 'plain'
    }
    for stage in STAGES
}


def exit_at(number, level, se=True):
    channels, stride, _ = STAGES[number]
    arguments = SEBottleneckExit.arguments_at(
        Stage(None, channels, stride), Stage(None, *STAGES[3][:2])
    )
    return SEBottleneckExit(num_classes=1000, level=level, se=se, **arguments)


@pytest.mark.parametrize('number', [1, 2, 3])
@pytest.mark.parametrize('se', [True, False])
def test_macs_of_table_ii(number, se):
    # The table counts SE-bottlenecks twice, so its branches are rebuilt from ours as
    # (stem and classifier) + 2 · blocks.
    size = 224 // STAGES[number][1]
    features = (STAGES[number][0], size, size)
    for level, gflops in TABLE_II[number].items():
        branch = exit_at(number, level, se)
        macs = count_macs(branch, features)
        shapes = [(256, 14, 14)] + [(512, 7, 7)] * (level - 1)
        blocks = sum(map(count_macs, branch.blocks[1:], shapes))
        total = STAGES[number][2] + (macs + blocks) / 1e9
        assert total == pytest.approx(gflops, abs=0.0055)


@pytest.mark.parametrize('number', [1, 2, 3])
def test_shapes_of_table_i(number):
    branch = exit_at(number, level=3)
    x = torch.rand(2, STAGES[number][0], *[224 // STAGES[number][1]] * 2)
    kernel = branch.blocks[0].conv.kernel_size[0]
    assert kernel == {1: 6, 2: 4, 3: 3}[number]
    shapes = []
    for block in branch.blocks:
        x = block(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(256, 14, 14), (512, 7, 7), (512, 7, 7), (512, 7, 7)]


def test_level_0_is_the_naive_branch():
    branch = exit_at(1, level=0)
    linear = LinearExit(1000, 64)
    linear.load_state_dict(branch.state_dict())
    x = torch.rand(2, 64, 7, 7)
    torch.testing.assert_close(branch(x), linear(x))
    torch.testing.assert_close(linear(x), linear.fc(x.flatten(2).mean(2)))


def test_linear_exit_takes_pooled_features():
    assert LinearExit(10, 8)(torch.rand(3, 8)).shape == (3, 10)


def test_negative_level():
    with pytest.raises(ValueError, match=r'level must be 0 \(.*\) or more.*got -1'):
        exit_at(1, level=-1)
