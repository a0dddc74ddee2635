"""SSIMULACRA 2: the reference's scores, the window, and what a loss needs of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import photo

from lic.evaluation.metrics import METRICS, ssimulacra2
from lic.networks.ssimulacra2 import Ssimulacra2

DISTORTED = {
    ("steps", 256, 240): 83.54,
    ("steps", 97, 131): 63.07,
    ("blocks", 160, 176): 84.11,
    ("blocks", 33, 70): 60.888,
    ("noise", 231, 257): 77.735,
    ("blur", 251, 190): 81.941,
    ("blur", 16, 15): 84.663,
    ("darker", 128, 120): 65.414,
    ("darker", 8, 8): 98.299,
}
"""Scores of ``ssimulacra2`` from Debian's libjxl-devtools 0.11.2, given these pictures as PNG."""


def distort(x: np.ndarray, how: str) -> np.ndarray:
    """Return a picture that differs in one way from ``x``, uint8 ``(H, W, 3)``."""
    if how == "steps":
        return (x // 16 * 16 + 8).astype(np.uint8)
    if how == "blocks":
        means = np.array(
            [[x[i : i + 4, j : j + 4].mean((0, 1)) for j in range(0, x.shape[1], 4)]
             for i in range(0, x.shape[0], 4)]
        )  # fmt: skip
        large = means.repeat(4, 0).repeat(4, 1)[: x.shape[0], : x.shape[1]]
        return ((large + x) / 2).astype(np.uint8)
    if how == "noise":
        return np.clip(x + np.random.default_rng(1).normal(0, 6, x.shape), 0, 255).astype(np.uint8)
    if how == "blur":
        wide = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge").astype(float)
        h, w = x.shape[:2]
        return (sum(wide[i : i + h, j : j + w] for i in range(3) for j in range(3)) / 9).astype(
            np.uint8
        )
    return (x * 0.9).astype(np.uint8)


def tensor(x: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(x.transpose(2, 0, 1)[None].copy()).to(dtype) / 255


@pytest.mark.parametrize("case", DISTORTED)
def test_scores_are_those_of_the_reference(case):
    how, height, width = case
    x = photo(height, width)
    # The reference rounds to float32 in a recursive filter, which lowers the best scores.
    assert ssimulacra2(x, distort(x, how)) == pytest.approx(DISTORTED[case], abs=0.1)


def test_equal_pictures_score_100_and_small_ones_have_no_score():
    x = photo(64, 80)
    assert ssimulacra2(x, x) == 100
    assert ssimulacra2(x[:7], x[:7]) is None
    assert METRICS["ssimulacra2"].least_side == 8
    with pytest.raises(ValueError, match="side of 7 pixels"):
        Ssimulacra2()(tensor(x[:, :7]), tensor(x[:, :7]))


def test_precision_neighbours_and_autocast_do_not_matter():
    x = photo(120, 136)
    pair = [distort(x, how) for how in ("blur", "steps")]
    score = Ssimulacra2()
    exact = [float(score(tensor(x, torch.float64), tensor(y, torch.float64))) for y in pair]
    wanted, decoded = tensor(x).expand(2, -1, -1, -1), torch.cat([tensor(y) for y in pair])
    assert score(wanted, decoded).tolist() == pytest.approx(exact, abs=2e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert score(wanted, decoded).tolist() == pytest.approx(exact, abs=2e-3)


def test_the_window_has_the_sum_and_the_variance_of_the_gaussian():
    taps = Ssimulacra2().taps
    assert taps[0] + 2 * sum(taps[1:]) == pytest.approx(1)
    assert 2 * sum(n**2 * tap for n, tap in enumerate(taps)) == pytest.approx(1.5**2)
    gaussian = [math.exp(-(n**2) / (2 * 1.5**2)) / (1.5 * math.sqrt(2 * math.pi)) for n in range(5)]
    assert taps == pytest.approx(gaussian, abs=4e-3)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("change", [0.0, 1e-6, 1e-3, 0.3])
def test_gradients_are_finite_where_pictures_are_flat_or_equal(level, change):
    x = torch.full((1, 3, 40, 33), level)
    x_hat = (x + change * torch.linspace(-1, 1, 33)).requires_grad_()
    found = Ssimulacra2()(x, x_hat)
    found.sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(x_hat.grad).all()
    assert change or not x_hat.grad.any()


def test_the_gradient_is_that_of_the_score():
    x = tensor(photo(40, 36), torch.float64)
    random = torch.Generator().manual_seed(0)
    x_hat = (x + 0.03 * torch.randn(x.shape, generator=random)).requires_grad_()
    score = Ssimulacra2()
    score(x, x_hat).sum().backward()
    direction = torch.randn(x.shape, generator=random, dtype=torch.float64)
    with torch.no_grad():
        rise = score(x, x_hat + 1e-6 * direction) - score(x, x_hat - 1e-6 * direction)
    assert float((x_hat.grad * direction).sum()) == pytest.approx(float(rise) / 2e-6, rel=1e-4)
