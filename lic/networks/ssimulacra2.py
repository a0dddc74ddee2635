"""SSIMULACRA 2: how much alike two pictures are to people (Sneyers, Cloudinary; version 2.1, 2023).

What is compared, at six scales of halved linear light, are three maps of each plane of XYB:
structure (SSIM without its luminance denominator), ringing (edges that only the decoded picture
has) and blur (edges that it lost). Means and 4-norms of the maps, 108 numbers, are weighed and
bent so that the score follows human ratings: 100 for equal pictures, about 90 where no difference
is seen side by side, 70 high, 50 medium and 30 low quality, below 0 for what hardly resembles.

Definition and constants: ``tools/ssimulacra2.cc`` and ``tools/gauss_blur.cc`` of libjxl 0.11. As
there, nothing lies beyond the borders (windows reach into zeros), a scale counts if the one above
it has 8 pixels a side, and the weights of fewer scales than six are the first ones of the list.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LEAST_SIDE", "Ssimulacra2"]

LEAST_SIDE = 8
"""Pixels; the reference sees no difference between smaller pictures."""
_MOST_SCALES = 6

_ABSORBANCE = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
"""Linear RGB to the responses of long, middle and short cones."""
_BIAS = 0.0037930732552754493
_LEAST_RESPONSE = 1e-4
"""Below that of any colour; keeps the slope of the cube root finite for samples outside 0..1."""
_SCALE_X, _OFFSETS = 14.0, (0.42, 0.01, 0.55)
"""Bring X, Y and B - Y to about 0..1."""

_SIGMA, _RADIUS = 1.5, 5
"""Of the window, pixels; Charalampidis 2016 (57)."""
_C2 = 0.0009
"""Steadies the structure of flat places."""

_LEAST_POWER = 1e-30
"""A mean of fourth powers below it has the root 0, whose slope would be infinite."""
_POLYNOMIAL = (2.326765642916932, -0.020884521182843837, 6.248496625763138e-05)
_GAIN, _EXPONENT = 0.9562382616834844, 0.6276336467831387
_STRAIGHT_BELOW = 1e-4
"""A straight line replaces the power there, which moves scores above 99.96 by at most 0.006."""

_COUNT = 18 * _MOST_SCALES
_WEIGHTS = {
    1: 0.0007376606707406586, 4: 0.0007793481682867309, 7: 0.0004371155730107379,
    9: 1.1041726426657346, 10: 0.00066284834129271, 11: 0.00015231632783718752,
    13: 0.0016406437456599754, 15: 1.8422455520539298, 16: 11.441172603757666,
    18: 0.0007989109436015163, 19: 0.000176816438078653, 21: 1.8787594979546387,
    22: 10.94906990605142, 24: 0.0007289346991508072, 25: 0.9677937080626833,
    27: 0.00014003424285435884, 28: 0.9981766977854967, 29: 0.00031949755934435053,
    30: 0.0004550992113792063, 33: 0.0013648766163243398, 39: 7.466890328078848,
    41: 17.445833984131262, 42: 0.0006235601634041466, 45: 6.683678146179332,
    46: 0.00037724407979611296, 47: 1.027889937768264, 48: 225.20515300849274,
    51: 19.213238186143016, 52: 0.0011401524586618361, 53: 0.001237755635509985,
    54: 176.39317598450694, 57: 24.43300999870476, 58: 0.28520802612117757,
    59: 0.0004485436923833408, 63: 34.77906344483772, 64: 44.835625328877896,
    73: 0.0008680556573291698, 79: 0.0005313191874358747, 81: 0.00016533814161379112,
    87: 0.0004179171803251336, 88: 0.0017290828234722833, 90: 0.0020827005846636437,
    93: 8.826982764996862, 94: 23.19243343998926, 96: 95.1080498811086,
    97: 0.9863978034400682, 98: 0.9834382792465353, 99: 0.0012286405048278493,
    100: 171.2667255897307, 101: 0.9807858872435379, 105: 0.0005130064588990679,
    107: 0.00010854057858411537,
}  # fmt: skip
"""Those that are not 0, by their place in the order plane, scale, norm, map."""


class _Scale(NamedTuple):
    """One scale of a picture, ``(N, 3, h, w)`` each: XYB, its windowed mean and mean square."""

    planes: Tensor
    means: Tensor
    squares: Tensor


class Ssimulacra2(nn.Module):
    """The score of decoded pictures, with a gradient that is finite everywhere.

    A metric in float32 or float64 and, negated, a loss: computed at the precision of its input,
    under autocast too, and without a look at values, so that a step can be captured.
    """

    def __init__(self) -> None:
        super().__init__()
        weights = torch.zeros(_COUNT, dtype=torch.float64)
        weights[list(_WEIGHTS)] = torch.tensor(list(_WEIGHTS.values()), dtype=torch.float64)
        offsets = torch.tensor(_OFFSETS, dtype=torch.float64)[:, None, None]
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.taps = _taps()

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return scores ``(N,)``, at most 100; the gradient flows to ``x_hat`` alone.

        Args:
            x, x_hat: sRGB ``(N, 3, H, W)`` in [0, 1]; a little outside is allowed.

        Raises:
            ValueError: A side is under ``LEAST_SIDE``.
        """
        with torch.no_grad():
            wanted = self.features(x)
        return self.score(wanted, x_hat)

    def features(self, x: Tensor) -> list[_Scale]:
        """Return what is needed of the originals ``(N, 3, H, W)`` in [0, 1].

        Raises:
            ValueError: A side is under ``LEAST_SIDE``.
        """
        with torch.autocast(x.device.type, enabled=False):
            found = []
            for planes in self._scales(x):
                means, squares = self._blur(planes, planes.square())
                found.append(_Scale(planes, means, squares))
            return found

    def score(self, wanted: list[_Scale], x_hat: Tensor) -> Tensor:
        """Return the same as ``forward`` from what :meth:`features` gives for the originals."""
        with torch.autocast(x_hat.device.type, enabled=False):
            norms = []
            for own, planes in zip(wanted, self._scales(x_hat), strict=True):
                difference = (planes - own.planes).square()
                means, squares, difference = self._blur(planes, planes.square(), difference)
                other = _Scale(planes, means, squares)
                norms.append(_norms(_structure(own, other, difference), *_edges(own, other)))
            # (N, plane, scale, norm, map), the order of the weights
            values = torch.stack(norms, 2).flatten(1)
            weights = self.get_buffer("weights")[: values.shape[1]].to(values.dtype)
            return _score((values * weights).sum(1))

    def _scales(self, x: Tensor) -> list[Tensor]:
        side = min(x.shape[-2:])
        if side < LEAST_SIDE:
            raise ValueError(f"a side of {side} pixels; SSIMULACRA 2 needs {LEAST_SIDE}")
        light = _linear(x if x.dtype == torch.float64 else x.float())
        found = [self._xyb(light)]
        while len(found) < _MOST_SCALES and min(light.shape[-2:]) >= LEAST_SIDE:
            # What an odd side leaves over is averaged alone.
            light = F.avg_pool2d(light, 2, ceil_mode=True, count_include_pad=False)
            found.append(self._xyb(light))
        return found

    def _xyb(self, light: Tensor) -> Tensor:
        """Return XYB, about 0..1, of linear light."""
        r, g, b = light.unbind(1)
        # Sums by hand: a matrix product may be in TF32 on a GPU.
        cones = [row[0] * r + row[1] * g + row[2] * b + _BIAS for row in _ABSORBANCE]
        roots = [c.clamp(min=_LEAST_RESPONSE) ** (1 / 3) - _BIAS ** (1 / 3) for c in cones]
        x, y = (roots[0] - roots[1]) / 2, (roots[0] + roots[1]) / 2
        planes = torch.stack([_SCALE_X * x, y, roots[2] - y], 1)
        return planes + self.get_buffer("offsets").to(planes.dtype)

    def _blur(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return windowed means of ``(N, 3, h, w)`` images; outside of them lies 0."""
        blurred: Tensor = _Blur.apply(torch.cat(images), self.taps)  # type: ignore[no-untyped-call]
        return blurred.chunk(len(images))


def _taps() -> list[float]:
    """Return the window from its centre to one side.

    The reference filters recursively with three cosines that end in zeros at the radius
    (Charalampidis 2016); their sum is this window. Its parts are those of a Gaussian, moved as
    little as gives them the sum 1 and the variance of the Gaussian.
    """
    omega = np.array([1, 3, 5]) * math.pi / (2 * _RADIUS)
    cosines = np.cos(np.outer(np.arange(_RADIUS), omega))
    sums = np.array([1, -1, 1]) / np.tan(omega / 2)
    moments = np.array([1, -1, 1]) * sums**2 / np.sin(omega)  # (radius^2 - variance) a unit
    parts = np.exp(-0.5 * (_SIGMA * omega) ** 2) / _RADIUS
    limits = np.array([sums, moments])
    missing = np.array([1, _RADIUS**2 - _SIGMA**2]) - limits @ parts
    return [float(t) for t in cosines @ (parts + np.linalg.pinv(limits) @ missing)]


class _Blur(torch.autograd.Function):
    """The window along both dimensions; symmetric, so the gradient is blurred the same way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: list[float]) -> Tensor:
        ctx.taps = taps
        return _along(_along(x, taps, 2), taps, 3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _along(_along(gradients[0], ctx.taps, 3), ctx.taps, 2), None


def _along(x: Tensor, taps: list[float], dim: int) -> Tensor:
    """Filter along one dimension by sums of shifted images: a convolution may be in TF32."""
    size, reach = x.shape[dim], len(taps) - 1
    padded = F.pad(x, (reach, reach) if dim == 3 else (0, 0, reach, reach))
    total = taps[0] * x
    for offset, tap in enumerate(taps[1:], 1):
        for start in (reach - offset, reach + offset):
            total.add_(padded.narrow(dim, start, size), alpha=tap)
    return total


def _linear(x: Tensor) -> Tensor:
    """Return linear light of sRGB (IEC 61966-2-1)."""
    dark = x <= 0.04045
    return torch.where(dark, x / 12.92, ((torch.where(dark, 1.0, x) + 0.055) / 1.055) ** 2.4)


def _structure(a: _Scale, b: _Scale, difference: Tensor) -> Tensor:
    """Return 1 - SSIM, at least 0, without the denominator of its luminance term.

    The covariance of the definition is written by the variance of the difference, which rounds
    nearly equal pictures far better: 1 - (1 - l) (1 - s) instead of 1 minus a quotient near 1.

    Args:
        a, b: Two pictures.
        difference: Windowed mean of their squared difference.
    """
    luminance = (a.means - b.means).square()
    variances = (a.squares - a.means.square()) + (b.squares - b.means.square())
    structure = (difference - luminance) / (variances + _C2)
    return F.relu(luminance + structure - luminance * structure)


def _edges(a: _Scale, b: _Scale) -> tuple[Tensor, Tensor]:
    """Return the maps of edges that ``b`` has on top of those of ``a``, and that it lacks."""
    ratio = (1 + (b.planes - b.means).abs()) / (1 + (a.planes - a.means).abs()) - 1
    return F.relu(ratio), F.relu(-ratio)


def _norms(*maps: Tensor) -> Tensor:
    """Return means and 4-norms of maps ``(N, 3, h, w)`` as ``(N, 3, 2, maps)``."""
    stacked = torch.stack(maps, -1)
    power = stacked.square().square().mean((2, 3))
    some = power > _LEAST_POWER
    roots = torch.where(some, torch.where(some, power, 1.0).sqrt().sqrt(), 0.0)
    return torch.stack([stacked.mean((2, 3)), roots], 2)


def _score(total: Tensor) -> Tensor:
    """Bend the weighted sum ``(N,)``, 0 for equal pictures, so that it follows ratings."""
    z = _GAIN * total
    a, b, c = _POLYNOMIAL
    z = z * (a + z * (b + z * c))
    straight = z * _STRAIGHT_BELOW ** (_EXPONENT - 1)
    bent = z.clamp(min=_STRAIGHT_BELOW) ** _EXPONENT
    return 100 - 10 * torch.where(z < _STRAIGHT_BELOW, straight, bent)
