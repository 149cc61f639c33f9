"""Convolutional neural mixture models: one training, many networks.

Adaptative Inference Cost With Convolutional Neural Mixture Models, Ruiz, Verbeek, ICCV
2019; the variants of section A.1 of its supplement are settings.
"""

from collections.abc import Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any

import torch
from mmcv.cnn import ConvModule, build_norm_layer
from torch import Tensor, nn

from mmdyn.methods.cnmm.fan_out import FanOut
from mmdyn.methods.cnmm.gates import sample_concrete
from mmdyn.methods.cnmm.graph import (
    Function,
    all_functions,
    live_functions,
    usage_probabilities,
)
from mmdyn.methods.cnmm.subnetwork import Subnetwork
from mmdyn.models.backbone import Backbone
from mmdyn.models.searchable import Searchable
from mmdyn.models.stages import Stage, cut_into_stages
from mmdyn.operating_point import DENSE, OperatingPoint
from mmdyn.registry import MODELS
from mmdyn.utils.validation import (
    check_between,
    check_choice,
    check_counts,
    check_out_indices,
)

RANKINGS = ('usage', 'mixing_weight')


@MODELS.register_module()
class CNMM(Searchable, Backbone):
    """A mixture of all the convolutional networks that a graph of functions contains.

    Node 0 holds the stem's map. From every node t a function f_t^s (batch norm, ReLU, 3×3
    convolution; the norm is shared by what leaves the node) leads to each later node s
    that is not finer. Node s is built up as its functions are computed (Eq. 7):
    h_{t+1}^s = π_t^s f_t^s(h_t^t) + (1 − π_t^s) h_t^s with π = sigmoid(γ), γ learned.
    Training draws π anew for each image from the Concrete distribution, inference uses
    π itself. Functions can go without training: that takes off the ones least likely
    to be used, and those that led to them or from them alone.

    Its operating points are ``keep=K`` for each of ``keep`` and ``dense``.

    Args:
        scales (Sequence[int]): Scale of each node 0 … T, 0 being the finest; scale k
            halves the stem's map k times.
        channels (Sequence[int]): Channels of the nodes of each scale.
        in_channels (int): Channels of the images.
        stem (str): ``'cifar'`` (a 3×3 convolution of stride 1) or ``'imagenet'`` (7×7 of
            stride 2, norm, ReLU, max-pooling).
        out_indices (Sequence[int] | None): Nodes whose features, behind norm and ReLU,
            :meth:`forward` returns, in rising order; exits follow them. The last node is
            always one of them; ``None``: it alone.
        out_channels (Sequence[int] | None): Channels of what is returned for each of
            ``out_indices``, to which a 1×1 convolution, norm and ReLU lead: those of the
            backbone in whose place this one is, so that necks and heads fit. ``None``:
            those of the nodes.
        sampling (bool): Draw π in training; otherwise use the expectations there too.
        deterministic (bool): Add all functions up instead of mixing them: there are no
            mixing weights, and nothing can be pruned.
        temperature (float): Of the Concrete distribution, above 0.
        samples (int): Draw π that many times in inference, too, and average the class
            probabilities (Table 1), at that many times the cost; 0: expectations. More
            than one takes a model that averages, such as ``mmdyn.MultiExitClassifier``.
        keep (Sequence[int]): How many functions the operating points keep at most. How
            few can still make a network depends on the trained mixing weights; a point
            that keeps fewer is refused when it is set.
        ranking (str): What tells the functions to keep: ``'usage'``, the probability
            that a chain to the outputs contains them, or ``'mixing_weight'``, π alone, of
            which functions that leave node 0 have 1: they go last.
        norm_cfg (dict): Config of the norms.
        norm_eval (bool): Keep BN statistics fixed in training.
        init_cfg (dict | list | None): Initialisation; ``None``: Kaiming, γ = 0.

    Raises:
        ValueError: For fewer than three nodes (T < 2), a node, scale, ranking or number
            of functions that does not exist, or settings that contradict one another.

    Example:
        >>> backbone = dict(type='mmdyn.CNMM', out_indices=(3, 6, 9, 12))
    """

    # Functions lead from each part to all later ones.
    trains_stage_wise = False

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
        self.scales = _checked_scales(scales, channels)
        check_counts(channels=channels, in_channels=in_channels)
        check_choice('stem', stem, ('cifar', 'imagenet'))
        check_choice('ranking', ranking, RANKINGS)
        if not temperature > 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        if not (isinstance(samples, Integral) and samples >= 0):
            raise ValueError(f'samples must be 0 or a number of draws, got {samples!r}')
        if deterministic and (samples or keep):
            raise ValueError(
                'a deterministic sum has no mixing weights to draw from or to prune by: '
                f'samples must be 0 and keep empty, got {samples} and {keep}'
            )
        self.channels = tuple(channels)
        self.out_indices = _checked_outputs(out_indices, last=len(self.scales) - 1)
        self.sampling = sampling
        self.deterministic = deterministic
        self.temperature = temperature
        self.samples = samples
        self.ranking = ranking
        self.norm_eval = norm_eval

        self.functions = live_functions(all_functions(self.scales), self.out_indices)
        nodes = range(len(self.scales))
        unused = set(nodes) - {t for t, _ in self.functions} - set(self.out_indices)
        if unused:
            raise ValueError(
                f'no function leads from nodes {sorted(unused)} to an output: all later '
                f'nodes are finer; got scales {self.scales} and out_indices '
                f'{self.out_indices}'
            )
        self.stem, stem_stride = _make_stem(stem, in_channels, channels[0], norm_cfg)
        self.strides = tuple(stem_stride * 2**scale for scale in self.scales)
        self.norms = nn.ModuleDict(
            {str(n): build_norm_layer(norm_cfg, self.width(n))[1] for n in nodes}
        )
        self.fan_outs = nn.ModuleDict(
            {str(n): self._make_fan_outs(n) for n in nodes[:-1]}
        )
        self.projections = nn.ModuleDict()
        for node, width in self._checked_widths(out_channels).items():
            self.projections[str(node)] = ConvModule(
                self.width(node), width, kernel_size=1, norm_cfg=norm_cfg
            )
        self.mixed = tuple(f for f in self.functions if f[0] > 0)
        if not deterministic:
            self.gamma = nn.Parameter(torch.zeros(len(self.mixed)))
        self._subnetworks: dict = {}
        self.keep = self._checked_keep(keep)

    def _checked_keep(self, keep: Sequence[int]) -> tuple[int, ...]:
        if not isinstance(keep, Sequence) or len(set(keep)) < len(keep):
            raise ValueError(f'keep must be a sequence of different numbers, got {keep}')
        for number in keep:
            self.check_settings(dict(keep=number))
        return tuple(keep)

    def _checked_widths(self, out_channels: Sequence[int] | None) -> dict[int, int]:
        """Channels to project outputs to, by their nodes."""
        if out_channels is None:
            return {}
        check_counts(out_channels=out_channels)
        if len(out_channels) != len(self.out_indices):
            raise ValueError(
                f'out_channels must have a value for each of the {len(self.out_indices)} '
                f'out_indices, got {tuple(out_channels)}'
            )
        return dict(zip(self.out_indices, out_channels))

    def _make_fan_outs(self, node: int) -> nn.ModuleDict:
        """The functions that leave a node, by the scale that they lead to."""
        targets: dict[int, list[int]] = {}
        for t, s in self.functions:
            if t == node:
                targets.setdefault(self.scales[s], []).append(s)
        return nn.ModuleDict(
            {
                f'scale{scale}': FanOut(
                    self.width(node),
                    self.channels[scale],
                    nodes,
                    octaves=scale - self.scales[node],
                )
                for scale, nodes in targets.items()
            }
        )

    def width(self, node: int) -> int:
        """Channels of a node."""
        return self.channels[self.scales[node]]

    def out_width(self, node: int) -> int:
        """Channels of what is returned for a node of ``out_indices``."""
        if str(node) in self.projections:
            return self.projections[str(node)].out_channels
        return self.width(node)

    def project(self, node: int, features: Tensor) -> Tensor:
        """What is returned for a node, given its features (N, C, H, W)."""
        if str(node) in self.projections:
            return self.projections[str(node)](features)
        return features

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        pruned = tuple(self.pruned_point(number) for number in self.keep)
        return (*pruned, DENSE, *self.found_points)

    @property
    def dense_operating_point(self) -> OperatingPoint:
        return DENSE

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        unknown = set(settings) - {'keep', 'ranking'}
        if unknown:
            raise ValueError(
                f"a CNMM knows the settings 'keep' and 'ranking', got {sorted(unknown)}"
            )
        if settings.get('ranking') is not None:
            check_choice('ranking', settings['ranking'], RANKINGS)
        if settings.get('keep') is not None:
            if self.deterministic:
                raise ValueError('a deterministic sum has no mixing weights to prune by')
            check_between('keep', settings['keep'], 1, len(self.functions))

    @property
    def draws(self) -> int:
        return max(1, self.samples)

    def stages_for(self, ends, settings=MappingProxyType({}), cut='stage', lazy=False):
        """The subnetwork that the exits and the settings of the point need."""
        if cut != 'stage':
            return super().stages_for(ends, settings, cut, lazy)
        subnetwork = self.subnetwork(
            settings.get('keep'), settings.get('ranking'), ends, lazy
        )
        return [[stage] for stage in cut_into_stages(subnetwork)]

    def exit_points(self, ends: Sequence[int]) -> tuple[OperatingPoint, ...]:
        """A point for each ``keep`` and each exit that has more functions.

        They take the place of the backbone's own, which mean less for an early exit.
        """
        numbers, self.keep = self.keep, ()
        return tuple(
            self.pruned_point(keep, exit)
            for exit, end in enumerate(ends, 1)
            for keep in numbers
            if keep < len(self.subnetwork(stages=[end]).functions)
        )

    def check_exit_settings(self, settings: Mapping[str, Any]) -> None:
        self.check_settings(settings)

    def check_runnable(self, point: OperatingPoint) -> None:
        self.subnetwork(**point.settings)

    def mixing_weights(self) -> dict[Function, float]:
        """The learned π of every function; 1 for those that leave node 0, which is
        where the mixture of each node starts."""
        weights = dict.fromkeys(self.functions, 1.0)
        if not self.deterministic:
            weights.update(zip(self.mixed, self.gamma.detach().sigmoid().tolist()))
        return weights

    def pruned_point(
        self, keep: int, exit: int | None = None, ranking: str | None = None
    ) -> OperatingPoint:
        """Describe the operating point that keeps some functions.

        Args:
            keep (int): How many functions run, at most.
            exit (int | None): The exit to leave at, from 1, in a model that has exits.
            ranking (str | None): As of :meth:`pruning_sequence`.

        Returns:
            OperatingPoint: For example ``'exit=2,keep=20'``; a ranking that is not the
            model's own is part of the name.
        """
        settings = dict(keep=keep, ranking=ranking or self.ranking)
        name = f'keep={keep}'
        if exit is not None:
            settings['exit'] = exit
            name = f'exit={exit},{name}'
        if settings['ranking'] != self.ranking:
            name = f'{name},ranking={ranking}'
        return OperatingPoint(name, settings)

    def pruning_sequence(
        self, stages: Sequence[int] | None = None, ranking: str | None = None
    ) -> list[tuple[Function, ...]]:
        """List what is left as functions are removed one after another.

        Args:
            stages (Sequence[int] | None): Numbers (from 1) of the outputs, in the order
                of ``out_indices``, whose features are asked for; ``None``: all.
            ranking (str | None): ``'usage'`` or ``'mixing_weight'``; ``None``: what the
                model ranks by.

        Returns:
            list[tuple[Function, ...]]: The functions that run, from all to the fewest
            that still lead from the input to each output. Of a deterministic sum nothing
            can be removed.

        Raises:
            ValueError: For an output or a ranking that does not exist.
        """
        outputs = self._outputs(stages)
        ranking = ranking or self.ranking
        self.check_settings(dict(ranking=ranking))
        weights = self.mixing_weights()
        pruning_sequence = [live_functions(self.functions, outputs)]
        while len(pruning_sequence[-1]) > 1 and not self.deterministic:
            left = {f: weights[f] for f in pruning_sequence[-1]}
            importance = (
                usage_probabilities(left, outputs) if ranking == 'usage' else left
            )
            del left[min(left, key=importance.get)]
            try:
                pruning_sequence.append(live_functions(left, outputs))
            except ValueError:
                break
        return pruning_sequence

    def subnetwork(
        self,
        keep: int | None = None,
        ranking: str | None = None,
        stages: Sequence[int] | None = None,
        lazy: bool = False,
    ) -> Subnetwork:
        """Take out the part of the model that some outputs need.

        Args:
            keep (int | None): How many functions to run, at most; ``None``: all that
                lead to the outputs, which may be fewer than the model has.
            ranking (str | None): As of :meth:`pruning_sequence`.
            stages (Sequence[int] | None): As of :meth:`pruning_sequence`.
            lazy (bool): Leave functions that only later outputs need until these are
                asked for: more convolutions for the same MACs, and fewer MACs where
                samples leave before.

        Returns:
            Subnetwork: It shares the weights of the model. Where γ was changed through
            ``.data``, call ``eval()`` or ``train()`` first: that goes unnoticed.

        Raises:
            ValueError: If there are not so many functions, or so few would leave an
                output without a path from the input.
        """
        stages = None if stages is None else tuple(stages)
        key = keep, ranking, stages, lazy
        # What is carved depends on γ alone; a change in place raises its version. In
        # exports γ is a stand-in without values: what the point carved before holds.
        if key not in self._subnetworks or self._is_outdated(self._subnetworks[key][0]):
            self._subnetworks[key] = self._gamma_version(), self._build_subnetwork(*key)
        return self._subnetworks[key][1]

    def _gamma_version(self) -> int:
        if self.deterministic or self.gamma.is_inference():
            return 0
        return self.gamma._version

    def _is_outdated(self, version: int) -> bool:
        traced = not self.deterministic and type(self.gamma) is not nn.Parameter
        return not traced and self._gamma_version() != version

    def _build_subnetwork(self, keep, ranking, stages, lazy) -> Subnetwork:
        outputs = self._outputs(stages)
        self.check_settings(dict(keep=keep, ranking=ranking))
        if keep is None:
            functions = live_functions(self.functions, outputs)
        else:
            pruning_sequence = self.pruning_sequence(stages, ranking)
            functions = next((f for f in pruning_sequence if len(f) <= keep), None)
            if functions is None:
                raise ValueError(
                    f'keep={keep} would leave an output without a path from the input: '
                    f'the last {len(pruning_sequence[-1])} functions by '
                    f'{ranking or self.ranking} that lead to nodes {outputs} are '
                    f'{pruning_sequence[-1]}'
                )
        return Subnetwork(self, functions, outputs, lazy)

    def train(self, mode: bool = True) -> 'CNMM':
        self._subnetworks.clear()  # what is written to .data raises no version
        return super().train(mode)

    def _outputs(self, stages: Sequence[int] | None) -> tuple[int, ...]:
        """Nodes of some outputs, given by their numbers."""
        if stages is None:
            return self.out_indices
        valid = range(1, len(self.out_indices) + 1)
        rises = list(stages) == sorted(set(stages))
        if not (stages and rises and set(stages) <= set(valid)):
            raise ValueError(
                f'stages must be rising numbers in 1…{len(self.out_indices)}, got '
                f'{list(stages)}'
            )
        return tuple(self.out_indices[number - 1] for number in stages)

    def draw_mixing_weights(self, images: int) -> dict[Function, Tensor]:
        """The mixing weights of one forward pass.

        Args:
            images (int): Number of images N.

        Returns:
            dict[Function, Tensor]: Samples of shape (N, 1, 1, 1) where the mode of the
            model asks for them, otherwise expectations, scalars. Empty for a
            deterministic sum.
        """
        if self.deterministic:
            return {}
        draws = self.sampling if self.training else self.samples
        if not draws:
            return dict(zip(self.mixed, self.gamma.sigmoid().unbind()))
        samples = sample_concrete(self.gamma, images, self.temperature)
        return dict(zip(self.mixed, samples[..., None, None, None].unbind(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute features of images.

        Args:
            x (Tensor): Images of shape (N, C, H, W).

        Returns:
            tuple[Tensor, ...]: Features of the nodes in ``out_indices``, projected where
            ``out_channels`` says so.

        Raises:
            ValueError: In inference with several samples.
        """
        if self.samples > 1 and not self.training:
            raise ValueError(
                f'samples={self.samples} means the average of class probabilities: it '
                f'takes a model that averages, such as mmdyn.MultiExitClassifier'
            )
        return self.subnetwork(**self.operating_point.settings)(x)


def _checked_scales(scales: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(scales, Sequence):
        raise ValueError(f'scales must be a sequence, got {scales!r}')
    scales = tuple(scales)
    if len(scales) < 3:
        raise ValueError(
            f'scales must give 3 nodes or more (T ≥ 2: with fewer there is nothing to '
            f'mix), got {scales}'
        )
    valid = range(len(channels))
    if not all(isinstance(scale, Integral) and scale in valid for scale in scales):
        raise ValueError(
            f'scales must lie in 0…{len(channels) - 1}, for channels has '
            f'{len(channels)} values, got {scales}'
        )
    if scales[0] != 0:
        raise ValueError(f'node 0 must be of the finest scale, 0, got scales {scales}')
    return scales


def _checked_outputs(nodes: Sequence[int] | None, last: int) -> tuple[int, ...]:
    nodes = check_out_indices(nodes, last)
    if list(nodes) != sorted(set(nodes)) or nodes[-1] != last:
        raise ValueError(
            f'out_indices must rise and end with the last node, {last}: nothing would '
            f'use the nodes behind; got {nodes}'
        )
    return nodes


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
    return cut_into_stages(backbone.subnetwork())


@cut_into_stages.register
def _(subnetwork: Subnetwork) -> list[Stage]:
    model = subnetwork.model
    return [
        Stage(
            part.forward,
            model.out_width(part.node),
            model.strides[part.node],
            part.features,
        )
        for part in subnetwork.parts()
    ]
