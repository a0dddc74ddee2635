"""Layers that depend on regions: means of regions, kernels of their own, nothing from far away."""

from __future__ import annotations

import torch

from lic.networks.region import (
    RegionAdaptive,
    ScaleAffine,
    cell_numbers,
    prototypes_of,
    spread,
)


def test_prototypes_are_means_of_regions():
    features = torch.arange(12.0).view(1, 1, 3, 4)
    regions = torch.tensor([[[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]]])
    found = prototypes_of(features, regions, 4)
    assert found.tolist() == [[[4.5, 0, 6.5, 0]]]
    assert spread(found, regions)[0, 0].tolist() == [[4.5, 4.5, 6.5, 6.5]] * 3


def test_cells_cover_any_grid():
    device = torch.device("cpu")
    assert cell_numbers(8, 8, 4, device).unique(return_counts=True)[1].tolist() == [4] * 16
    assert cell_numbers(3, 1, 2, device).flatten().tolist() == [0, 0, 2]


def test_kernels_differ_between_regions_and_see_one_position_around():
    torch.manual_seed(0)
    layer = RegionAdaptive(16, 4, groups=4, width=8).eval()
    torch.nn.init.normal_(layer.after.weight)
    x, prototype = torch.randn(1, 16, 9, 9), torch.randn(1, 4, 9, 9)
    with torch.no_grad():
        base = layer(x, prototype)
        other = prototype.clone()
        other[..., :4] += 1
        assert torch.equal(layer(x, other)[..., 4:], base[..., 4:])
        assert not torch.allclose(layer(x, other)[..., :4], base[..., :4])
        nudged = x.clone()
        nudged[..., 0, 0] += 1
        changed = (layer(nudged, prototype) != base).any(1)[0]
    assert changed[:2, :2].all()
    assert not changed[2:].any()
    assert not changed[:, 2:].any()


def test_the_filter_is_a_sum_over_nine_neighbours():
    torch.manual_seed(0)
    layer = RegionAdaptive(4, 2, groups=2, width=8).eval()
    with torch.no_grad():
        for conv in (layer.before, layer.after):
            conv.weight.copy_(torch.eye(4)[:, :, None, None])
            conv.bias.zero_()
        layer.kernels.weight.zero_()
        layer.kernels.bias.copy_(torch.arange(18.0))
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(100)
        x = torch.rand(1, 4, 5, 6)
        found = layer(x, torch.zeros(1, 2, 5, 6)) - x
        kernels = torch.arange(18.0).view(2, 1, 3, 3).repeat_interleave(2, 0)
        wanted = torch.nn.functional.conv2d(x, kernels, padding=1, groups=4)
    assert torch.allclose(found, wanted, atol=1e-4)


def test_a_fresh_scale_affine_layer_changes_nothing():
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(ScaleAffine(8)(x), x)
