"""Attention in fixed point: near the float one, and the same integers however it is computed."""

from __future__ import annotations

import copy

import pytest
import torch

from lic.coding.fixed import FRACTION_BITS, exact_modules, to_grid
from lic.coding.fixed_attention import FixedWindowAttention, exponentials, fixed_softmax


def frozen(layer: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in fixed point."""
    exact = copy.deepcopy(layer)
    for module in exact_modules(exact).values():
        module.freeze(*module.to_integers())
    return exact


def attention(shift: int = 0) -> FixedWindowAttention:
    torch.manual_seed(0)
    layer = FixedWindowAttention(16, 2, 4, shift)
    torch.nn.init.normal_(layer.offsets.weight)
    return layer.eval().requires_grad_(False)


def grid_values(*size: int) -> torch.Tensor:
    return to_grid(torch.randn(*size, generator=torch.Generator().manual_seed(1)).double())


def test_the_table_ends_in_zero():
    table = exponentials()
    assert table[0] == 2**16
    assert table[1 << FRACTION_BITS] == 24109  # 2^16 / e
    assert table[-1] == 0


def test_softmax_is_near_and_on_its_grid():
    x = 3 * grid_values(50, 9)
    shares = fixed_softmax(x)
    assert torch.equal(shares * 4096, (shares * 4096).round())
    assert torch.allclose(shares, torch.softmax(x, -1), atol=3e-4)
    far = torch.tensor([[0.0, -16.0, -2048.0]]).double()
    assert fixed_softmax(far).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 11)])
def test_exact_attention_is_near_the_trained_one(size, shift):
    layer = attention(shift)
    x = grid_values(2, 16, *size)
    exact = frozen(layer)(x)
    assert torch.equal(exact * 256, (exact * 256).round())
    assert torch.allclose(exact.float(), layer(x.float()), atol=0.03)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("shift", [0, 2])
def test_batches_threads_layouts_and_libraries_change_nothing(shift):
    layer = frozen(attention(shift))
    x = grid_values(3, 16, 9, 14)
    expected = layer(x)
    assert torch.equal(torch.cat([layer(part[None]) for part in x]), expected)
    assert torch.equal(layer(x.contiguous(memory_format=torch.channels_last)), expected)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(layer(x), expected)
    finally:
        torch.set_num_threads(before)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(layer(x), expected)


def test_what_is_outside_of_the_grid_takes_no_part():
    layer = frozen(attention(2))
    x = grid_values(1, 16, 5, 6)
    near = layer(x)
    changed = x.clone()
    changed[..., 4, 5] += 1  # in the last window alone
    assert torch.equal(layer(changed)[..., :2, :2], near[..., :2, :2])
    assert not torch.equal(layer(changed)[..., 4, 5], near[..., 4, 5])


def test_order_of_channels_in_a_sum_changes_nothing():
    """A sum that rounded would notice the order of its terms."""
    torch.manual_seed(0)
    q, k = grid_values(40, 512) * 500, grid_values(512, 40) * 500
    q, k = to_grid(q), to_grid(k)
    order = torch.randperm(512)
    assert torch.equal(q @ k, q[:, order] @ k[order])
    assert not torch.equal(q.float() @ k.float(), q.float()[:, order] @ k.float()[order])
