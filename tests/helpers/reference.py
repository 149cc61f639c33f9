"""Independent ways to the numbers that mmdyn gives."""

from contextlib import contextmanager

import torch
from torch import nn


class MacsByFormula:
    """MACs from the textbook formula, for modules that run: no operator counter."""

    def __init__(self):
        self.macs = 0

    def _add(self, module, inputs, output):
        if isinstance(module, nn.Conv2d):
            n, out_channels, height, width = output.shape
            kernel = module.kernel_size[0] * module.kernel_size[1]
            per_position = kernel * module.in_channels // module.groups * out_channels
            self.macs += n * height * width * per_position
        elif isinstance(module, nn.Linear):
            self.macs += output.numel() * module.in_features


@contextmanager
def macs_by_formula(model):
    """Count MACs of all convolutions and linear layers of a model that run inside."""
    counter = MacsByFormula()
    hooks = [module.register_forward_hook(counter._add) for module in model.modules()]
    try:
        yield counter
    finally:
        for hook in hooks:
            hook.remove()


def randomize_norms(model):
    """Give batch norms statistics and weights as training leaves them: not 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model


@torch.no_grad()
def outputs_of(model, image):
    model.eval()  # not chained: mmdet's does not return the model
    return model(image)


def assert_same_in_onnxruntime(model, image, folder, atol=1e-4, dynamo=True):
    """Export a backbone for any batch size; compare its last output.

    By both exporters, or without ``dynamo`` by tracing alone, which is quicker.
    """
    outputs_of(model, image)  # in evaluation mode from here
    files = [str(folder / 'traced.onnx')]
    options = dict(input_names=['x'], dynamic_axes={'x': {0: 'batch'}})
    if hasattr(torch.export, 'Dim'):  # later than torch 2.1, with a second exporter
        options['dynamo'] = False
    if dynamo and 'dynamo' in options:
        files.append(str(folder / 'exported.onnx'))
        shapes = ({0: torch.export.Dim('batch')},)
        torch.onnx.export(
            model, (image,), files[1], dynamo=True, dynamic_shapes=shapes, verbose=False
        )
    with torch.no_grad():  # where a MoD block works in place
        torch.onnx.export(model, (image,), files[0], **options)
    for file in files:
        assert_same_file(file, model, image, atol)


def assert_same_file(file, model, image, atol):
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    for batch in (image, torch.rand(3, *image.shape[1:])):
        (got,) = session.run(None, {name: batch.numpy()})
        expected = outputs_of(model, batch)[-1]
        assert expected.abs().max() > 0.1, 'nothing to compare'
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=atol)


# Images smaller than a ResNet's stride of 32, and a ResNet to run on them.
TINY_SIZES = [(8, 8), (5, 7)]
TINY_NETWORK = dict(
    stem_channels=16, base_channels=16, num_stages=4, out_indices=(0, 1, 2, 3)
)


def assert_maps_shrink_to_one(maps):
    assert [map.shape[2:] for map in maps] == [(2, 2), (1, 1), (1, 1), (1, 1)]
    assert all(map.isfinite().all() for map in maps)
