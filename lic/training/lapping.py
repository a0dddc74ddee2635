"""Fit the matrix of the lapped prefilter to pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lic.networks.lapped import BORDER
from lic.training.data import Crops

__all__ = ["block_behind", "fit_lapped_matrix"]

_BLOCK = 2 * BORDER
_SPAN = 3 * _BLOCK
_WATER_LEVELS = (10.0, 40.0, 160.0)
"""Distortions in squared levels for which the matrix is chosen, 38 to 26 dB."""

_STEPS = 200


def fit_lapped_matrix(pictures: list[Tensor], samples: int = 1200, seed: int = 0) -> Tensor:
    """Return the orthogonal matrix that leaves the fewest bits to the blocks behind it.

    Rows and columns of pictures are taken as equally distributed and separable. The bits are those
    of a Gaussian source by reverse water-filling (Cover and Thomas, theorem 10.3.3), summed over
    three distortions. Only orthogonal matrices are tried: others trade bits for noise that a
    decoder would amplify.

    Args:
        pictures: uint8 tensors ``(3, H, W)``; those below 48 pixels a side are left out.
        samples: Crops drawn.
        seed: Of the draw.

    Returns:
        ``(16, 16)`` float32 with ``P P^T = I`` and ``J P J = P``, J the reversal.
    """
    crops = Crops(pictures, seed, torch.device("cpu")).batch(samples, _SPAN).double().mean(1)
    lines = crops[:, :: BORDER // 2].reshape(-1, _SPAN)
    lines = lines - lines.mean()
    covariance = lines.T @ lines / len(lines)
    covariance = (covariance + covariance.flip(0, 1)) / 2
    angles = torch.zeros(_BLOCK, _BLOCK, dtype=torch.float64)
    angles += 0.01 * torch.randn(
        angles.shape, dtype=angles.dtype, generator=torch.Generator().manual_seed(seed)
    )
    angles.requires_grad_()
    optimiser = torch.optim.Adam([angles], lr=0.02)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        _bits(_rotation(angles), covariance).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return _rotation(angles).detach().float()


def block_behind(matrix: Tensor) -> Tensor:
    """Return ``(16, 48)``: the middle of three blocks, as the filters at its borders leave it."""
    rows = torch.zeros(_BLOCK, _SPAN, dtype=matrix.dtype)
    rows[:BORDER, BORDER : BORDER + _BLOCK] = matrix[BORDER:]
    rows[BORDER:, BORDER + _BLOCK : BORDER + 2 * _BLOCK] = matrix[:BORDER]
    return rows


def _rotation(angles: Tensor) -> Tensor:
    """Return an orthogonal matrix that commutes with reversal."""
    skew = angles - angles.T
    return torch.matrix_exp((skew + skew.flip(0, 1)) / 4)


def _bits(matrix: Tensor, covariance: Tensor) -> Tensor:
    """Return bits of a block, plus the distortion at its price, over all water levels."""
    filters = block_behind(matrix)
    energies = torch.linalg.eigvalsh(filters @ covariance @ filters.T).clamp(min=1e-9)
    variances = torch.outer(energies, energies) / covariance.diagonal().mean()
    total = matrix.new_zeros(())
    for level in _WATER_LEVELS:
        nats = 0.5 * (variances / level).clamp(min=1).log().sum()
        distortion = variances.clamp(max=level).sum() / (2 * level)
        total = total + (nats + distortion) / math.log(2)
    return total
