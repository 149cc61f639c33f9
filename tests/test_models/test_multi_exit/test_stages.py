import pytest
import torch
from mmpretrain.models.backbones import RegNet, ResNet_CIFAR, VisionTransformer
from mmpretrain.models.backbones import ResNet as StockResNet
from reference import outputs_of, randomize_norms

from mmdyn import count_macs
from mmdyn.models.backbones import ResNet, ResNetMoD
from mmdyn.models.multi_exit import cut_into_stages

BACKBONES = {
    'trunk': lambda: ResNet(18, out_indices=(0, 1, 2, 3)),
    'trunk, CIFAR': lambda: ResNet(14, out_indices=(0, 1, 2)),
    'trunk, dilated': lambda: ResNet(
        50,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        deep_stem=True,
        out_indices=(0, 1, 2, 3),
    ),
    'MoD': lambda: ResNetMoD(34, out_indices=(0, 1, 2, 3)),
    'stock': lambda: StockResNet(18, out_indices=(0, 1, 2, 3)),
    'stock, deep stem': lambda: StockResNet(18, deep_stem=True, out_indices=(0, 1, 2, 3)),
    'stock, RegNet': lambda: RegNet('regnetx_400mf', out_indices=(0, 1, 2, 3)),
    'stock, CIFAR': lambda: ResNet_CIFAR(18, out_indices=(0, 1, 2, 3)),
}


@pytest.mark.parametrize('name', BACKBONES)
def test_stages_in_a_row_are_the_backbone(name):
    backbone = randomize_norms(BACKBONES[name]())
    image = torch.rand(2, 3, 64, 64)
    expected = outputs_of(backbone, image)
    stages = cut_into_stages(backbone)
    assert len(stages) == len(expected)
    x = image
    for stage, features in zip(stages, expected):
        with torch.no_grad():
            x = stage.forward(x)
        assert torch.equal(x, features)
        assert x.shape[1] == stage.out_channels
        assert 64 // x.shape[2] == stage.stride


def test_macs_of_resnet18_stages():
    # Lin et al., Table II: 1.81 G in all, with the classifier.
    macs = [
        count_macs(ResNet(18, num_stages=n + 1), (3, 224, 224)) / 1e6 for n in range(4)
    ]
    assert macs[:3] == pytest.approx([580, 991, 1402], abs=1)
    assert (macs[3] + 0.512) / 1e3 == pytest.approx(1.81, abs=0.005)


def test_a_copy_is_cut_at_its_own_modules():
    import copy

    backbone = ResNet(14).eval()
    other = copy.deepcopy(backbone)
    torch.nn.init.zeros_(other.conv1.weight)
    image = torch.rand(1, 3, 16, 16)
    a, b = (cut_into_stages(m)[0].forward(image) for m in (backbone, other))
    assert not torch.equal(a, b)


def test_unknown_backbone_says_what_is_known():
    with pytest.raises(TypeError, match='VisionTransformer.*mmdyn.ResNet.*register'):
        cut_into_stages(VisionTransformer('deit-tiny', img_size=32, patch_size=16))
