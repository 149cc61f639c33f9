import time

import torch
from torch import nn

from mmdyn import DynamicModule, OperatingPoint
from mmdyn.evaluation.latency import measure_latency, time_alternately


class Sleeper(DynamicModule, nn.Module):
    """Takes 2 ms or 8 ms for a batch and remembers the order of its calls."""

    def __init__(self):
        super().__init__()
        self.calls = []

    @property
    def operating_points(self):
        return tuple(OperatingPoint(f'{ms} ms', dict(ms=ms)) for ms in (2, 8))

    def test_step(self, data):
        assert not torch.is_grad_enabled()
        self.calls.append((self.operating_point.name, data))
        time.sleep(self.operating_point.settings['ms'] / 1e3)
        return [None] * data


def test_time_an_image_takes_points_taking_turns():
    model = Sleeper()
    fast, slow = measure_latency(model, model.operating_points, [4, 2])
    # Sleeping never ends early: 2 ms over 4 images, 8 ms over 4.
    assert fast['median'] >= 0.5 and slow['median'] >= 2
    assert fast['p90'] >= fast['median'] and slow['p90'] >= slow['median']
    names = [name for name, _ in model.calls]
    assert names == ['2 ms', '8 ms'] * (len(names) // 2)
    assert [batch for _, batch in model.calls[:8:2]] == [4, 4, 2, 4]  # the first warms up
    assert model.operating_point.name == '8 ms'


def test_functions_are_timed_in_turns():
    calls = []

    def sleeper(name, seconds):
        def call():
            assert not torch.is_grad_enabled()
            calls.append(name)
            time.sleep(seconds)

        return call

    functions = [sleeper('a', 0.001), sleeper('b', 0.004)]
    times = time_alternately(functions, rounds=5, warmup=2)
    assert times.shape == (5, 2) and calls == ['a', 'b'] * 7
    assert times[:, 0].min() >= 1 and times[:, 1].min() >= 4
