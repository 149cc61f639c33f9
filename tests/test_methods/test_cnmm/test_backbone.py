import copy
import itertools
import pickle

import pytest
import torch
from helpers.cnmm_reference import (
    analytic_macs,
    chain_probability,
    chains,
    run_function,
    run_recursion,
)
from helpers.configs import paper
from helpers.reference import outputs_of, randomize_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import MODELS

from mmdyn import at_operating_point, count_macs, operating_points, set_operating_point
from mmdyn.methods.cnmm.backbone import CNMM
from mmdyn.models.stages import cut_into_stages

SCALES = (0, 0, 1, 2, 0, 1, 2)


def random_cnmm(scales=SCALES, channels=(4, 6, 8), out_indices=(3, 6), **kwargs):
    """A CNMM with weights, norms and mixing weights as training leaves them."""
    model = CNMM(scales, channels, out_indices=out_indices, **kwargs)
    randomize_norms(model)
    if not model.deterministic:
        torch.nn.init.normal_(model.gamma, std=2)
    return model.eval()


def linear_cnmm(scales, **kwargs):
    """A CNMM whose functions are linear: whatever it meets is above 0."""
    model = CNMM(scales, (3, 4, 5), **kwargs)
    for parameter in model.parameters():
        if parameter.dim() == 4:
            torch.nn.init.uniform_(parameter, 0, 0.2)
    for norm in model.norms.values():
        norm.eps = 1e-14
    torch.nn.init.normal_(model.gamma, std=1.5)
    return model.double().eval()


@torch.no_grad()
def run_chain(model, chain, images):
    x = model.stem(images)
    for t, s in chain:
        x = run_function(model, t, s, x)
    return x


@pytest.mark.parametrize(
    'scales',
    [(0,) * (t + 1) for t in range(2, 6)] + [(0, 0, 1, 0, 1, 2), (0, 2, 1, 1, 2)],
    ids=str,
)
def test_linear_recursion_is_the_expectation_over_all_chains(scales):
    model = linear_cnmm(scales)
    images = torch.rand(2, 3, 9, 8, dtype=torch.double)
    weights = model.mixing_weights()
    every = chains(model.functions, len(scales) - 1)
    expected = sum(
        chain_probability(chain, model.functions, weights)
        * run_chain(model, chain, images)
        for chain in every
    )
    if len(set(scales)) == 1:
        assert len(every) == 2 ** (len(scales) - 2)
    (found,) = outputs_of(model, images)
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(1, 9), st.data())
def test_one_convolution_a_node_and_scale_is_function_by_function(scales, size, data):
    last = len(scales)
    nodes = data.draw(st.sets(st.integers(1, last - 1)))
    # Every node leads to an output, or is one.
    nodes |= {n for n in range(1, last) if all(s < scales[n - 1] for s in scales[n:])}
    model = random_cnmm((0, *scales), out_indices=(*sorted(nodes), last))
    images = torch.rand(2, 3, size, size + 1)
    with torch.no_grad():
        expected = run_recursion(model, model.functions, model.mixing_weights(), images)
    for node, found in zip(model.out_indices, outputs_of(model, images)):
        assert torch.allclose(found, expected[node], atol=1e-5)
        stride = model.strides[node]
        assert found.shape[1:] == (
            model.width(node),
            -(-size // stride),
            -(-(size + 1) // stride),
        )


def test_convolutions_that_run():
    model = random_cnmm()
    ran = []
    for module in model.modules():
        if hasattr(module, 'targets'):
            module.register_forward_hook(lambda *_: ran.append(1))
    outputs_of(model, torch.rand(1, 3, 16, 16))
    # Each node leads to each scale that has a later node which is not finer.
    pairs = {(t, model.scales[s]) for t, s in model.functions}
    assert len(ran) == len(pairs) < len(model.functions)


def test_full_size_model_costs_what_the_paper_says():
    model, mmacs = CNMM(), paper('cnmm')['mmacs']
    assert count_macs(model, (3, 32, 32)) == pytest.approx(mmacs * 1e6, rel=0.03)
    assert count_macs(model, (3, 32, 32)) == analytic_macs(model, model.functions, 32, 32)


class TestSampling:
    def test_draws_follow_the_mixing_weights(self):
        model = random_cnmm().train()
        number = 20_000
        draws = model.draw_mixing_weights(number)
        expected = model.mixing_weights()
        assert set(draws) == {f for f in model.functions if f[0] > 0}
        for function, samples in draws.items():
            assert samples.shape == (number, 1, 1, 1)
            assert ((samples > 0) & (samples < 1)).all()
            pi = expected[function]
            share = (samples > 0.5).double().mean().item()
            assert abs(share - pi) < 3 * (pi * (1 - pi) / number) ** 0.5

    def test_cold_draws_choose_nodes_as_often_as_the_formula_says(self):
        model = random_cnmm((0,) * 5, (2,), (4,), temperature=1e-3).train()
        number = 20_000
        draws = {
            f: (v > 0.5).flatten() for f, v in model.draw_mixing_weights(number).items()
        }
        weights = model.mixing_weights()
        for chain in chains(model.functions, 4):
            taken = torch.ones(number, dtype=torch.bool)
            for t, s in chain:
                if t > 0:
                    taken &= draws[t, s]
                for r in range(t + 1, s):
                    taken &= ~draws[r, s]
            p = chain_probability(chain, model.functions, weights)
            share = taken.double().mean().item()
            assert abs(share - p) < 3 * (p * (1 - p) / number) ** 0.5

    def test_training_mixes_with_the_draws_of_each_image(self):
        model = random_cnmm().train()
        for norm in model.norms.values():
            norm.eval()
        images = torch.rand(3, 3, 16, 16)
        torch.manual_seed(1)
        found = model(images)[-1]
        torch.manual_seed(1)
        draws = model.draw_mixing_weights(3)
        weights = {**dict.fromkeys(model.functions, 1.0), **draws}
        expected = run_recursion(model, model.functions, weights, images)[6]
        assert torch.allclose(found, expected, atol=1e-5)
        assert len(set(draws[1, 4].flatten().tolist())) == 3

    def test_the_temperature_is_that_of_the_concrete_distribution(self):
        # At π = ½ the logit of a sample is logistic noise over the temperature.
        hot, cold = (
            CNMM(SCALES, temperature=t).train().draw_mixing_weights(20_000)[1, 2]
            for t in (2.0, 0.5)
        )
        logistic_variance = torch.pi**2 / 3
        assert hot.logit().var().item() == pytest.approx(logistic_variance / 4, rel=0.05)
        assert cold.logit().var().item() == pytest.approx(logistic_variance * 4, rel=0.05)

    def test_training_with_expectations_runs_as_inference_does(self):
        model = random_cnmm(sampling=False, norm_eval=True)
        images = torch.rand(2, 3, 16, 16)
        expected = outputs_of(model, images)
        for found, wanted in zip(model.train()(images), expected):
            assert torch.equal(found, wanted)

    @pytest.mark.parametrize('sampling', [True, False])
    def test_mixing_weights_learn(self, sampling):
        model = random_cnmm(sampling=sampling).train()
        sum(x.square().mean() for x in model(torch.rand(4, 3, 16, 16))).backward()
        assert (model.gamma.grad != 0).all()
        assert all(p.grad is not None for p in model.parameters())

    def test_one_draw_in_inference(self):
        model = random_cnmm(samples=1)
        image = torch.rand(1, 3, 16, 16)
        assert not torch.equal(outputs_of(model, image)[1], outputs_of(model, image)[1])
        assert count_macs(model, (3, 16, 16)) == count_macs(random_cnmm(), (3, 16, 16))

    def test_several_draws_need_a_model_that_averages(self):
        with pytest.raises(ValueError, match=r'samples=5 .*MultiExitClassifier'):
            outputs_of(random_cnmm(samples=5), torch.rand(1, 3, 16, 16))


def test_deterministic_sum():
    model = random_cnmm(deterministic=True)
    images = torch.rand(2, 3, 16, 16)
    assert 'gamma' not in model.state_dict()
    held, features = {0: model.stem(images)}, {}
    with torch.no_grad():
        for node in range(7):
            features[node] = model.norms[str(node)](held[node]).relu()
            for t, s in model.functions:
                if t == node:
                    held[s] = held.get(s, 0) + run_function(model, t, s, features[t])
    for node, found in zip((3, 6), outputs_of(model, images)):
        assert torch.allclose(found, features[node], atol=1e-5)


class TestPruning:
    @pytest.mark.parametrize('ranking', ['usage', 'mixing_weight'])
    @pytest.mark.parametrize('stages', [None, [1], [2]])
    def test_subnetworks_follow_the_recursion(self, ranking, stages):
        model = random_cnmm()
        images = torch.rand(2, 3, 17, 16)
        for functions in model.pruning_sequence(stages, ranking):
            subnetwork = model.subnetwork(len(functions), ranking, stages)
            assert subnetwork.functions == set(functions)
            with torch.no_grad():
                expected = run_recursion(model, functions, model.mixing_weights(), images)
                for node, found in zip(subnetwork.outputs, subnetwork(images)):
                    assert torch.allclose(found, expected[node], atol=1e-5)

    def test_removed_functions_are_those_whose_weight_is_zero(self):
        # The reference that does not prune: π = 0 for what is gone.
        model = random_cnmm()
        images = torch.rand(2, 3, 16, 16)
        for functions in model.pruning_sequence():
            first = {}
            for t, s in functions:
                first.setdefault(s, t)
            weights = {
                f: (1.0 if first.get(f[1]) == f[0] else w) if f in functions else 0.0
                for f, w in model.mixing_weights().items()
            }
            with torch.no_grad():
                expected = run_recursion(model, model.functions, weights, images)
                found = model.subnetwork(len(functions))(images)
            for node, x in zip((3, 6), found):
                assert torch.allclose(x, expected[node], atol=1e-5)

    def test_functions_give_the_same_whatever_runs_beside_them(self):
        model = random_cnmm()
        x = torch.rand(2, 4, 16, 16)
        for fan_out in model.fan_outs['0'].values():
            whole = dict(zip(fan_out.targets, fan_out(x, fan_out.targets)))
            for number in range(1, len(fan_out.targets) + 1):
                for targets in itertools.combinations(fan_out.targets, number):
                    for target, value in zip(targets, fan_out(x, targets)):
                        assert torch.allclose(value, whole[target], atol=1e-6)

    @pytest.mark.parametrize('ranking', ['usage', 'mixing_weight'])
    def test_executed_macs_are_those_of_what_is_left(self, ranking):
        model = random_cnmm(ranking=ranking)
        for functions in model.pruning_sequence():
            point = f'keep={len(functions)}'
            pruned = random_cnmm(ranking=ranking, keep=(len(functions),))
            pruned.load_state_dict(model.state_dict())
            set_operating_point(pruned, point)
            expected = analytic_macs(model, functions, 20, 18)
            assert count_macs(pruned, (3, 20, 18)) == expected

    def test_least_used_go_first_and_dead_ones_with_them(self):
        model = CNMM((0, 0, 0, 0), (4,))
        # Of node 3's sources node 2 has all but 1 %; node 2 is fed by node 0.
        with torch.no_grad():
            for function, weight in {(1, 2): 0.02, (1, 3): 0.5, (2, 3): 0.99}.items():
                place = model.mixed.index(function)
                model.gamma[place] = torch.tensor(weight).logit()
        # usage: (1, 3) 0.005, (0, 3) 0.005, (1, 2) 0.0198, (0, 1) 0.0248 …
        assert model.pruning_sequence()[-1] == ((0, 2), (2, 3))
        gone = [set(a) - set(b) for a, b in itertools.pairwise(model.pruning_sequence())]
        assert gone[-1] == {(0, 1), (1, 2)}  # nothing else leads from node 1
        by_weight = model.pruning_sequence(ranking='mixing_weight')
        assert set(by_weight[0]) - set(by_weight[1]) == {(1, 2)}

    def test_usage_always_leads_to_one_chain(self):
        for seed in range(5):
            torch.manual_seed(seed)
            model = random_cnmm(out_indices=(6,))
            last = model.pruning_sequence()[-1]
            assert last in chains(model.functions, 6)

    def test_ranking_follows_new_weights(self):
        model = random_cnmm(keep=(8,))
        before = model.subnetwork(8).functions
        with torch.no_grad():
            model.gamma.neg_()
        assert model.subnetwork(8).functions != before

    def test_operating_points(self):
        model = random_cnmm(keep=(10, 14))
        assert [p.name for p in operating_points(model)] == [
            'keep=10',
            'keep=14',
            'dense',
        ]
        assert model.operating_point.name == 'dense'
        image = torch.rand(1, 3, 16, 16)
        with at_operating_point(model, 'keep=10'):
            expected = model.subnetwork(10)(image)
            for found, wanted in zip(outputs_of(model, image), expected):
                assert torch.equal(found, wanted)

    def test_lazy_parts_compute_the_same(self):
        model = random_cnmm(out_indices=(2, 3, 5, 6))
        images = torch.rand(2, 3, 16, 16)
        with torch.no_grad():
            for keep in (None, 12):
                eager = model.subnetwork(keep)(images)
                lazy = model.subnetwork(keep, lazy=True)(images)
                for found, wanted in zip(lazy, eager):
                    assert torch.allclose(found, wanted, atol=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (dict(scales=(0, 0)), r'3 nodes or more \(T ≥ 2'),
            (dict(scales=(0, 1, 3)), r'scales must lie in 0…2.*\(0, 1, 3\)'),
            (dict(scales=(1, 1, 2)), 'node 0 must be of the finest scale'),
            (dict(out_indices=(3, 7)), r'out_indices must lie in 0…6, got \(3, 7\)'),
            (dict(out_indices=(3,)), 'end with the last node, 6'),
            (dict(out_indices=(6, 3)), 'must rise'),
            (dict(out_channels=(8,)), r'for each of the 2 out_indices, got \(8,\)'),
            (dict(out_channels=(8, 0)), 'out_channels must be a whole number above 0'),
            (dict(channels=(8, 0, 8)), 'channels must be a whole number above 0'),
            (dict(stem='mnist'), "stem must be one of .*'mnist'"),
            (dict(ranking='size'), "ranking must be one of .*'size'"),
            (dict(temperature=0), 'temperature must be above 0, got 0'),
            (dict(samples=-1), 'samples must be 0 or a number of draws, got -1'),
            (dict(scales=5), 'scales must be a sequence, got 5'),
            (
                dict(scales=(0, 1, 0, 0), out_indices=None),
                r'from nodes \[1\] to an output',
            ),
            (dict(keep=5), 'keep must be a sequence of different numbers, got 5'),
            (dict(keep=(5, 5)), r'different numbers, got \(5, 5\)'),
            (dict(keep=(0,)), r'keep must lie in 1…18, got 0'),
            (dict(keep=(19,)), r'keep must lie in 1…18, got 19'),
            (dict(deterministic=True, keep=(9,)), 'no mixing weights'),
            (dict(deterministic=True, samples=2), 'no mixing weights'),
        ],
    )
    def test_arguments(self, changes, message):
        with pytest.raises(ValueError, match=message):
            CNMM(**{**dict(scales=SCALES, out_indices=(3, 6)), **changes})

    def test_an_exit_without_a_path(self):
        model = random_cnmm(keep=(1,))
        with pytest.raises(
            ValueError, match=r'keep=1 .* without a path .* nodes \(3, 6\)'
        ):
            set_operating_point(model, 'keep=1')
        assert model.operating_point.name == 'dense'

    def test_unknown_settings(self):
        model = random_cnmm()
        with pytest.raises(ValueError, match=r"knows the settings .*'budget'"):
            model.check_settings(dict(budget=0.5))
        for stages in ([3], [2, 1], [1, 1], []):
            with pytest.raises(ValueError, match=r'stages must be rising numbers in 1…2'):
                model.subnetwork(stages=stages)


def test_built_from_a_config_without_imports():
    backbone = MODELS.build(dict(type='mmdyn.CNMM', scales=SCALES))
    assert isinstance(backbone, CNMM)


def test_copies_and_state_dicts():
    model = random_cnmm(keep=(8,))
    set_operating_point(model, 'keep=8')
    image = torch.rand(1, 3, 16, 16)
    expected = outputs_of(model, image)
    other = random_cnmm(keep=(8,))
    other.load_state_dict(model.state_dict())
    set_operating_point(other, 'keep=8')
    for same in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), other):
        for found, wanted in zip(outputs_of(same, image), expected):
            assert torch.equal(found, wanted)


@pytest.mark.skipif(not hasattr(torch.export, 'Dim'), reason='needs torch 2.2')
@pytest.mark.parametrize('point', ['keep=9', 'dense'])
def test_a_pruned_network_can_be_exported(point):
    model, image = random_cnmm(keep=(9,)), torch.rand(1, 3, 16, 16)
    set_operating_point(model, point)
    program = torch.export.export(model, (image,))
    for found, expected in zip(program.module()(image), outputs_of(model, image)):
        assert torch.allclose(found, expected, atol=1e-5)


def test_channels_last_and_half_precision():
    model = random_cnmm()
    images = torch.rand(2, 3, 32, 32)
    expected = outputs_of(model, images)[-1]
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    found = outputs_of(last, images.contiguous(memory_format=torch.channels_last))[-1]
    assert torch.allclose(found, expected, atol=1e-4)
    with torch.autocast('cpu', torch.bfloat16):
        found = outputs_of(model, images)[-1]
        model.train()(images)[-1].sum().backward()
    assert torch.allclose(found.float(), expected, atol=0.1 * expected.max().item())


def test_outputs_of_the_channels_that_necks_expect():
    """Strides and channels of a ResNet-50, and of one with dilations."""
    for scales, out_indices, strides in (
        ((0, 0, 1, 1, 2, 2, 3, 3), (1, 3, 5, 7), (4, 8, 16, 32)),
        ((0, 0, 1, 1, 1, 1), (1, 3, 4, 5), (4, 8, 8, 8)),
    ):
        widths = (256, 512, 1024, 2048)
        model = CNMM(
            scales,
            channels=(4, 6, 8, 10),
            stem='imagenet',
            out_indices=out_indices,
            out_channels=widths,
        )
        randomize_norms(model).eval()
        images = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            outs = model(images)
        shapes = [tuple(out.shape[1:]) for out in outs]
        assert shapes == [(w, 64 // s, 96 // s) for w, s in zip(widths, strides)]
        assert [model.out_widths[node] for node in out_indices] == list(widths)
        # By hand: each map is its node's, times a matrix, behind norm and ReLU.
        plain = copy.deepcopy(model)
        plain.projections.clear()
        with torch.no_grad():
            for node, out, features in zip(out_indices, outs, plain(images)):
                project = model.projections[str(node)]
                matrix = project.conv.weight[:, :, 0, 0]
                product = torch.einsum('oc,nchw->nohw', matrix, features)
                expected = project.bn(product).relu()
                torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)
        stages = cut_into_stages(model)
        assert [s.out_channels for s in stages] == list(widths)
        assert [s.stride for s in stages] == list(strides)


def test_imagenet_stem():
    model = random_cnmm(stem='imagenet')
    found = outputs_of(model, torch.rand(1, 3, 64, 64))
    assert [x.shape for x in found] == [(1, 8, 4, 4)] * 2
    assert model.strides == (4, 4, 8, 16, 4, 8, 16)
