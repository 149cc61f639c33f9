import pytest
import torch

from mmdyn import count_macs
from mmdyn.methods.multi_exit.se_bottleneck import SEBottleneck, SqueezeExcitation


def test_macs_of_the_block_in_the_paper():
    # Section IV-A: "a single block in ResNet-18 requires about 13.7M FLOPs"; at 512
    # channels, 7×7: 49 · (512·128 + 9·128² + 128·512), and 2 · 512 · 32 for the SE part.
    block = SEBottleneck(512, 512, se=False)
    assert count_macs(block, (512, 7, 7)) == 13_647_872
    with_se = count_macs(SEBottleneck(512, 512), (512, 7, 7))
    assert with_se == 13_647_872 + 32_768
    assert with_se / 1e6 == pytest.approx(13.7, abs=0.05)


def test_first_block_halves_the_map_and_doubles_the_channels():
    block = SEBottleneck(256, 512, stride=2)
    assert block(torch.rand(2, 256, 14, 14)).shape == (2, 512, 7, 7)


def test_squeeze_excitation_scales_each_channel_of_each_sample():
    layer = SqueezeExcitation(32)
    x = torch.rand(3, 32, 4, 5) + torch.rand(3, 32, 1, 1) * 9
    ratio = layer(x) / x
    assert ratio.amin() > 0 and ratio.amax() < 1
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))
    assert (ratio[0] - ratio[1]).abs().max() > 1e-4
