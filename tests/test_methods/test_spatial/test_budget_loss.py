import pytest
import torch

from mmdyn.methods.spatial.budget import budget_loss


def test_against_arithmetic():
    executed = [torch.tensor(20.0), torch.tensor(90.0), torch.tensor(30.0)]
    total = [100.0, 100.0, 200.0]
    # Network: 140 / 400 = 0.35. Blocks: 0.2, 0.9, 0.15; bounds 0.75 and 0.25.
    network = (0.35 - 0.5) ** 2
    blocks = (0.05**2 + 0.15**2 + 0.1**2) / 3
    loss = budget_loss(executed, total, budget=0.5, progress=0.5)
    assert loss.item() == pytest.approx(network + blocks, rel=1e-5)


@pytest.mark.parametrize(
    ('progress', 'expected'),
    [(0.0, 0.0), (1.0, 0.2**2)],  # free blocks; every block at the budget
)
def test_bounds_of_single_blocks(progress, expected):
    executed = [torch.tensor(10.0), torch.tensor(50.0)]
    loss = budget_loss(executed, [100.0, 100.0], budget=0.3, progress=progress)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_gradient_pushes_towards_the_budget():
    executed = torch.tensor(60.0, requires_grad=True)
    budget_loss([executed], [100.0], 0.3, 0.0).backward()
    assert executed.grad.item() == pytest.approx(2 * 0.3 / 100)
