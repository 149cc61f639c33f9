import pytest
import torch
from mmpretrain.models import backbones as stock_backbones

from mmdyn.models.resnet import ResNet
from mmdyn.models.stock_weights import load_stock_weights


def test_a_module_is_loaded_whole_or_not_at_all():
    theirs = stock_backbones.ResNet(18).state_dict()
    del theirs['layer2.0.bn1.running_var']
    model = ResNet(18)
    before = model.layer2[0].bn1.running_mean.clone()
    theirs['layer2.0.bn1.running_mean'] += 1
    done = load_stock_weights(model, theirs)
    assert done.initial == ('layer2.0.bn1',)
    assert torch.equal(model.layer2[0].bn1.running_mean, before)


def test_weights_of_another_network_are_refused():
    vgg = stock_backbones.VGG(11).state_dict()
    with pytest.raises(ValueError, match=r'no layer of the ResNet .*features\.0'):
        load_stock_weights(ResNet(18), vgg)
