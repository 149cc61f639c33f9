"""Convolutional neural mixture models: one training, many networks.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019; the variants of section A.1 of its supplement are settings.
"""

from collections.abc import Sequence
from numbers import Integral

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn
from torch.distributions import RelaxedBernoulli

from mmdyn.methods.cnmm.fan_out import make_fan_outs
from mmdyn.methods.cnmm.graph import RANKINGS, Function, checked_functions, checked_scales
from mmdyn.methods.cnmm.points import MixturePoints
from mmdyn.models.backbone import Backbone
from mmdyn.models.stages import Stage, cut_into_stages
from mmdyn.registry import MODELS
from mmdyn.utils.validation import check_choice, check_counts


@MODELS.register_module()
class CNMM(MixturePoints, Backbone):
    """A mixture of all the convolutional networks that a graph of functions contains.

    Node 0 holds the stem's map. From every node t a function f_t^s (batch norm, ReLU, 3×3
    convolution; functions from one node share the norm) leads to each later node s that
    is not finer. Node s is built up as its functions are computed (Eq. 7):
    h_{t+1}^s = π_t^s f_t^s(h_t^t) + (1 − π_t^s) h_t^s with π = sigmoid(γ), γ learned.
    Training draws π anew for each image from the Concrete distribution, inference uses
    π itself. Pruning needs no training: it removes the functions least likely to be
    used, and those that are dead without them.

    Its operating points are ``keep=K`` for each of ``keep`` and ``dense``.

    Args:
        scales (Sequence[int]): Scale of each node 0 … T, 0 being the finest; scale k
            halves the stem's map k times.
        channels (Sequence[int]): Channels of the nodes of each scale.
        in_channels (int): Channels of the images.
        stem (str): ``'cifar'`` (a 3×3 convolution of stride 1) or ``'imagenet'`` (7×7 of
            stride 2, norm, ReLU, max-pooling).
        out_indices (Sequence[int] | None): Nodes whose features, after norm and ReLU,
            :meth:`forward` returns, rising to the last node; exits follow them. ``None``:
            the last alone.
        out_channels (Sequence[int] | None): Channels that each of ``out_indices`` is
            projected to by a 1×1 convolution, norm and ReLU, to fit necks and heads of
            another backbone. ``None``: those of the nodes.
        sampling (bool): Draw π in training; otherwise use the expectations there too.
        deterministic (bool): Add all functions up instead of mixing them; nothing can be
            pruned then.
        temperature (float): Of the Concrete distribution, above 0.
        samples (int): Draws of π in inference, whose class probabilities are averaged
            (Table 1), at that many times the cost; 0: expectations. More than one takes
            a model that averages, such as ``mmdyn.MultiExitClassifier``.
        keep (Sequence[int]): Numbers of functions that the operating points keep at most.
            A point with too few for a network, given the trained mixing weights, is
            refused when it is set.
        ranking (str): Importance of functions: ``'usage'``, the probability that a chain
            to the outputs contains one, or ``'mixing_weight'``, π alone, which is 1 for
            functions from node 0: they go last.
        norm_cfg (dict): Config of the norms.
        norm_eval (bool): Keep BN statistics fixed in training.
        init_cfg (dict | list | None): Initialisation; ``None``: Kaiming (γ = 0).

    Raises:
        ValueError: For fewer than three nodes (T < 2), a node, scale, ranking or number
            of functions that does not exist, or settings that contradict one another.

    Example:
        >>> backbone = dict(type='mmdyn.CNMM', out_indices=(3, 6, 9, 12))
    """

    def __init__(
        self,
        scales: Sequence[int] = (0, 0, 1, 2, 0, 1, 2, 0, 1, 2, 1, 2, 2),
        channels: Sequence[int] = (16, 32, 64),
        in_channels: int = 3,
        stem: str = 'cifar',
        out_indices: Sequence[int] | None = None,
        out_channels: Sequence[int] | None = None,
        sampling: bool = True,
        deterministic: bool = False,
        temperature: float = 2 / 3,
        samples: int = 0,
        keep: Sequence[int] = (),
        ranking: str = 'usage',
        norm_cfg: dict = dict(type='BN', requires_grad=True),
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            init_cfg
            or [
                # Of fan-in: the outputs of a convolution belong to many functions.
                dict(type='Kaiming', layer='Conv2d', mode='fan_in'),
                dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
            ]
        )
        self.scales = checked_scales(scales, len(channels))
        check_counts(channels=channels, in_channels=in_channels)
        check_choice('stem', stem, ('cifar', 'imagenet'))
        check_choice('ranking', ranking, RANKINGS)
        if not temperature > 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        if not (isinstance(samples, Integral) and samples >= 0):
            raise ValueError(f'samples must be 0 or a number of draws, got {samples!r}')
        if deterministic and (samples or keep):
            raise ValueError(
                f'a deterministic sum has no mixing weights for {samples=} and {keep=}'
            )
        self.channels = tuple(channels)
        self.sampling = sampling
        self.deterministic = deterministic
        self.temperature = temperature
        self.samples = samples
        self.ranking = ranking
        self.norm_eval = norm_eval

        self.out_indices, self.functions = checked_functions(self.scales, out_indices)
        self.mixed = tuple(f for f in self.functions if f[0] > 0)
        self.stem, stem_stride = _make_stem(stem, in_channels, channels[0], norm_cfg)
        self.strides = tuple(stem_stride * 2**scale for scale in self.scales)
        self.norms = nn.ModuleDict()
        for node in range(len(self.scales)):
            self.norms[str(node)] = build_norm_layer(norm_cfg, self.width(node))[1]
        self.fan_outs = make_fan_outs(self.functions, self.scales, self.channels)
        projected = _checked_widths(out_channels, self.out_indices)
        self.out_widths = {n: self.width(n) for n in self.out_indices} | projected
        self.projections = nn.ModuleDict()
        for node, width in projected.items():
            layer = ConvModule(self.width(node), width, kernel_size=1, norm_cfg=norm_cfg)
            self.projections[str(node)] = layer
        if not deterministic:
            self.gamma = nn.Parameter(torch.zeros(len(self.mixed)))
        self.set_keep(keep)

    def mixing_weights(self) -> dict[Function, float]:
        """π of each function; 1 from node 0, where each mixture starts."""
        weights = dict.fromkeys(self.functions, 1.0)
        if not self.deterministic:
            weights.update(zip(self.mixed, self.gamma.detach().sigmoid().tolist()))
        return weights

    def width(self, node: int) -> int:
        """Channels of a node."""
        return self.channels[self.scales[node]]

    def draw_mixing_weights(self, images: int) -> dict[Function, Tensor]:
        """Mixing weights of a forward pass of N images, none in a deterministic sum.

        They are samples (N, 1, 1, 1) in single precision, or expectations, scalars.
        """
        if self.deterministic:
            return {}
        draws = self.sampling if self.training else self.samples
        if not draws:
            return dict(zip(self.mixed, self.gamma.sigmoid().unbind()))
        # Concrete Distribution, Maddison, Mnih, Teh, ICLR 2017: above 1/2 as often as π.
        logits = self.gamma.float()
        temperature = logits.new_full((), self.temperature)
        gates = RelaxedBernoulli(temperature, logits=logits, validate_args=False)
        samples = gates.rsample((images,))  # N, M
        return dict(zip(self.mixed, samples[..., None, None, None].unbind(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """A map (N, C, H, W) for each of ``out_indices``, from images."""
        if self.samples > 1 and not self.training:
            raise ValueError(
                f'samples={self.samples} needs a model that averages probabilities, such '
                f'as mmdyn.MultiExitClassifier'
            )
        return self.subnetwork(**self.operating_point.settings)(x)


def _checked_widths(
    out_channels: Sequence[int] | None, out_indices: Sequence[int]
) -> dict[int, int]:
    """Channels that outputs are projected to, by their nodes."""
    if out_channels is None:
        return {}
    check_counts(out_channels=out_channels)
    if len(out_channels) != len(out_indices):
        raise ValueError(
            f'out_channels must have a value for each of the {len(out_indices)} '
            f'out_indices, got {tuple(out_channels)}'
        )
    return dict(zip(out_indices, out_channels))


def _make_stem(stem: str, in_channels: int, channels: int, norm_cfg: dict):
    """The layers before node 0, and their stride."""
    if stem == 'cifar':
        return nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), 1
    layers = nn.Sequential(
        nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
        build_norm_layer(norm_cfg, channels)[1],
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )
    return layers, 4


@cut_into_stages.register
def _(backbone: CNMM) -> list[Stage]:
    return backbone.subnetwork().stages()
