"""The fixed-point layers are exact, and the proof of it is about the weights in use."""

from __future__ import annotations

import pytest
import torch

from lic.coding.fixed import LIMIT, FixedConv2d, FixedLeakyReLU, to_grid
from lic.errors import WeightsError


def frozen(k: int = 3, seed: int = 0, groups: int = 1) -> FixedConv2d:
    torch.manual_seed(seed)
    layer = FixedConv2d(8, 12, k, groups=groups)
    layer.freeze(*layer.to_integers())
    return layer


def grid_input(seed: int = 1, n: int = 2) -> torch.Tensor:
    torch.manual_seed(seed)
    return to_grid(torch.randn(n, 8, 9, 11, dtype=torch.float64) * 300)


def by_integers(layer: FixedConv2d, x: torch.Tensor) -> torch.Tensor:
    """The same convolution in int64, the independent definition of what is right."""
    k = layer.weight_bits
    weight = (layer.weight * 2.0**k).long()
    bias = (layer.bias * 2.0 ** (k + 8)).long()
    integers = torch.nn.functional.pad((x * 256).long(), [layer.padding[0]] * 4)
    side = layer.kernel_size[0]
    n, _, h, w = x.shape
    out = bias[None, :, None, None].expand(n, -1, h, w).clone()
    per_group_in, per_group_out = 8 // layer.groups, 12 // layer.groups
    for o in range(12):
        start = (o // per_group_out) * per_group_in
        for i in range(per_group_in):
            for dy in range(side):
                for dx in range(side):
                    patch = integers[:, start + i, dy : dy + h, dx : dx + w]
                    out[:, o] += weight[o, i, dy, dx] * patch
    rounded = (out + (1 << (k - 1))) >> k
    return rounded.clamp(-int(LIMIT) * 256, int(LIMIT) * 256)


@pytest.mark.parametrize(("side", "groups"), [(1, 1), (3, 1), (1, 4), (3, 2)])
def test_frozen_convolution_equals_integer_arithmetic(side, groups):
    layer, x = frozen(side, groups=groups), grid_input()
    assert torch.equal((layer(x) * 256).long(), by_integers(layer, x))


def test_patches_as_products_equal_the_convolution():
    layer, x = frozen(3), grid_input()
    assert torch.equal(to_grid(layer._as_products(x)), layer(x))
    grouped = frozen(3, groups=2)
    assert torch.equal(to_grid(grouped._as_products(x)), grouped(x))


def test_values_beyond_the_range_are_clamped():
    assert to_grid(torch.tensor([1e9, -1e9], dtype=torch.float64)).tolist() == [LIMIT, -LIMIT]


def test_rounding_is_half_up_on_both_signs():
    x = torch.tensor([0.5, -0.5, 1.5], dtype=torch.float64) / 256
    assert (to_grid(x) * 256).tolist() == [1, 0, 2]


def test_leaky_relu_stays_on_the_grid():
    x = grid_input()
    y = FixedLeakyReLU()(x) * 256
    assert torch.equal(y, y.round())


def test_training_mode_rounds_nothing():
    x = torch.randn(3)
    assert to_grid(x) is x


def test_weights_too_large_for_the_proof_are_refused():
    layer = FixedConv2d(8, 12, 3)
    weight = torch.full(layer.weight.shape, 2.0**31)
    with pytest.raises(WeightsError, match="too large"):
        layer.freeze(18, weight * 2**18, torch.zeros(12))


def test_bound_is_computed_from_the_weights():
    layer = frozen(1)
    reach = (layer.weight.abs().sum((1, 2, 3)) * LIMIT + layer.bias.abs()).max().item()
    assert layer.proven_bound() == pytest.approx(reach / 2.0 ** (53 - layer.weight_bits - 8))


@pytest.mark.parametrize("k", [7, 19])
def test_fraction_bits_outside_the_contract_are_refused(k):
    layer = FixedConv2d(8, 12, 1)
    with pytest.raises(WeightsError, match="fraction bits"):
        layer.freeze(k, layer.weight.detach(), layer.bias.detach())


def test_float32_is_not_exact_where_float64_is():
    """A control: the same layer in float32 does leave the integers, so the tests above can fail."""
    layer, x = frozen(3), grid_input()
    single = FixedConv2d(8, 12, 3)
    single.load_state_dict({k: v.float() for k, v in layer.state_dict().items()})
    assert not torch.equal(to_grid(single(x.float()).double()), layer(x))
