"""Sampling between positions: what torch does, gradients included, and on the grid exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from lic.coding.fixed import to_grid
from lic.coding.sampling import sample_bilinear, to_sixteenths
from lic.coding.windows import Windows


def test_samples_are_those_of_grid_sample():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 7, requires_grad=True)
    rows = (torch.rand(2, 11) * 7 - 1).requires_grad_()
    columns = (torch.rand(2, 11) * 9 - 1).requires_grad_()
    found = sample_bilinear(x, rows, columns)
    places = torch.stack([columns / 3 - 1, rows / 2 - 1], dim=-1)[:, :, None]
    wanted = F.grid_sample(x, places, padding_mode="border", align_corners=True)[..., 0]
    assert torch.allclose(found, wanted, atol=1e-5)
    weights = torch.randn(found.shape)
    both = [
        torch.autograd.grad((y * weights).sum(), (x, rows, columns), retain_graph=True)
        for y in (found, wanted)
    ]
    for ours, theirs in zip(*both, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_exact_samples_lie_on_the_grid_whatever_the_order_of_summation():
    torch.manual_seed(0)
    x = to_grid(1000 * torch.randn(1, 4, 6, 6, dtype=torch.float64))
    rows, columns = (to_sixteenths(6 * torch.rand(1, 50, dtype=torch.float64)) for _ in range(2))
    found = sample_bilinear(x, rows, columns)
    assert torch.equal(found, to_grid(found))
    flipped = sample_bilinear(x.flip(2), 5 - rows, columns)
    # Half way between two grid values both round up, so the mirror image may be one step away.
    inside = (rows <= 5) & (columns <= 5)
    assert (found - flipped).abs()[..., inside[0]].max() <= 2.0**-8
    assert torch.equal(to_sixteenths(rows), rows)


def test_windows_join_to_the_grid_they_were_cut_from():
    x = torch.randn(2, 3, 10, 13)
    for shift in (0, 2):
        windows = Windows(10, 13, 4, shift)
        assert torch.equal(windows.join(windows.cut(x)), x)
        hidden = windows.hidden(x.device)
        assert int((~hidden).sum()) == 130
    assert Windows(8, 12, 4).hidden(x.device) is None
