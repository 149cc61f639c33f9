import pytest
import torch
import torchvision
from helpers.reference import randomize_norms
from mmengine.registry import MODELS

from mmdyn.methods.mod.mobilenet_v2 import MobileNetV2MoD
from mmdyn.methods.mod.resnet import ResNetMoD
from mmdyn.methods.mod.vgg import VGGMoD
from mmdyn.models.stock_weights import load_stock_weights

nets = torchvision.models
OURS_AND_TORCHVISION = {
    'resnet18': lambda: (ResNetMoD(18), nets.resnet18()),
    'resnet50': lambda: (ResNetMoD(50), nets.resnet50()),
    'vgg16': lambda: (VGGMoD(16, norm_cfg=None), nets.vgg16(init_weights=False)),
    'vgg16_bn': lambda: (VGGMoD(16), nets.vgg16_bn(init_weights=False)),
    'vgg19_bn': lambda: (VGGMoD(19, num_stages=4), nets.vgg19_bn(init_weights=False)),
    'mobilenet_v2': lambda: (MobileNetV2MoD(), nets.mobilenet_v2()),
}


def in_mod_block(module: str) -> bool:
    """Whether a module of one of the backbones is part of a MoD block."""
    parts = module.split('.')
    if parts[0].startswith('layer') and len(parts) > 2:
        return int(parts[1]) % 2 == 1
    return 'mod' in parts or 'narrow' in parts


def classifier(backbone):
    return dict(
        type='ImageClassifier',
        backbone=backbone,
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=512),
    )


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]


@pytest.mark.parametrize('name', list(OURS_AND_TORCHVISION))
def test_all_but_the_mod_blocks_come_from_torchvision(name):
    ours, theirs = OURS_AND_TORCHVISION[name]()
    randomize_norms(theirs)
    done = load_stock_weights(ours, theirs.state_dict())
    assert done.initial and all(in_mod_block(module) for module in done.initial)
    assert not any(in_mod_block(module) for module in done.loaded)
    # Walked side by side: the networks have their convolutions in the same order.
    loaded = 0
    for a, b in zip(convolutions(ours), convolutions(theirs)):
        if a.weight.shape == b.weight.shape:
            assert torch.equal(a.weight, b.weight)
            assert a.weight.data_ptr() != b.weight.data_ptr()
            loaded += 1
    assert loaded == sum(
        isinstance(ours.get_submodule(n), torch.nn.Conv2d) for n in done.loaded
    )
    norms = [
        [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for net in (ours, theirs)
    ]
    for a, b in zip(*norms):
        if a.weight.shape == b.weight.shape:
            assert torch.equal(a.running_var, b.running_var)


def test_the_classifier_of_a_vgg_is_loaded_where_the_backbone_has_one():
    theirs = nets.vgg16_bn(init_weights=False)
    ours = VGGMoD(16, num_classes=1000)
    assert {'classifier.0', 'classifier.6'} <= set(
        load_stock_weights(ours, theirs.state_dict()).loaded
    )


def test_unused_modules_are_listed():
    done = load_stock_weights(ResNetMoD(18), nets.resnet18().state_dict())
    blocks = [f'layer{i}.1.{m}' for i in range(1, 5) for m in ('conv1', 'bn1', 'conv2')]
    assert {*blocks, 'fc'} <= set(done.unused)
    assert 'unused: ' in str(done) and 'fc' in str(done)


@pytest.mark.parametrize(
    ('stock', 'ours'),
    [
        (dict(type='ResNet', depth=18), ResNetMoD(18)),
        (dict(type='ResNet', depth=18, deep_stem=True), ResNetMoD(18, deep_stem=True)),
        (dict(type='VGG', depth=16, norm_cfg=dict(type='BN')), VGGMoD(16)),
        (dict(type='MobileNetV2'), MobileNetV2MoD()),
    ],
)
def test_checkpoint_file_of_a_whole_stock_model(stock, ours, tmp_path, mmpretrain_scope):
    model = MODELS.build(classifier(stock))
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'stock.pth')
    done = load_stock_weights(ours, str(tmp_path / 'stock.pth'))
    assert done.initial and all(in_mod_block(module) for module in done.initial)
    assert 'head.fc' in done.unused


@pytest.mark.parametrize('prefix', ['', 'module.', 'module.backbone.'])
def test_weights_of_a_backbone_in_a_whole_model(prefix, mmpretrain_scope):
    model = MODELS.build(classifier(dict(type='mmdyn.VGGMoD', depth=16)))
    theirs = nets.vgg16_bn(init_weights=False)
    done = load_stock_weights(
        model, {prefix + key: value for key, value in theirs.state_dict().items()}
    )
    weight = model.backbone.features[0].conv.weight
    assert torch.equal(weight, theirs.features[0].weight)
    assert 'head.fc' in done.initial


@pytest.mark.parametrize('whole', [False, True])
def test_a_runner_does_not_initialise_over_what_was_loaded(whole, mmpretrain_scope):
    theirs = randomize_norms(nets.resnet18())
    model = ResNetMoD(18)
    if whole:
        model = MODELS.build(classifier(dict(type='mmdyn.ResNetMoD', depth=18)))
    load_stock_weights(model, theirs.state_dict())
    model.init_weights()  # as Runner.train does
    backbone = model.backbone if whole else model
    assert torch.equal(backbone.conv1.weight, theirs.conv1.weight)
    assert torch.equal(backbone.layer1[0].bn2.weight, theirs.layer1[0].bn2.weight)


def test_a_whole_model_keeps_its_head(mmpretrain_scope):
    stock = MODELS.build(classifier(dict(type='ResNet', depth=18)))
    model = MODELS.build(classifier(dict(type='mmdyn.ResNetMoD', depth=18)))
    done = load_stock_weights(model, stock.state_dict())
    assert torch.equal(model.head.fc.weight, stock.head.fc.weight)
    assert all(in_mod_block(name.removeprefix('backbone.')) for name in done.initial)


def test_pretrained_in_a_config_knows_the_layouts_too(tmp_path):
    theirs = nets.mobilenet_v2()
    torch.save(theirs.state_dict(), tmp_path / 'mobilenet_v2.pth')
    file = str(tmp_path / 'mobilenet_v2.pth')
    model = MobileNetV2MoD(init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    assert torch.equal(model.conv1.conv.weight, theirs.features[0][0].weight)
    assert torch.equal(
        model.layer7[0].conv[2].conv.weight, theirs.features[17].conv[2].weight
    )


def test_weights_of_another_network_are_refused():
    vgg = nets.vgg16_bn(init_weights=False).state_dict()
    with pytest.raises(ValueError, match=r'no layer of the ResNetMoD .*features\.0'):
        load_stock_weights(ResNetMoD(18), vgg)
