"""Perceptual distances: LPIPS (Zhang et al. 2018) and DISTS (Ding et al. 2020).

Both compare features of frozen classifiers, as metrics in float32 and as losses under autocast.
Their weights are handed in as arrays (:mod:`lic.weights.perceptual` reads them); these modules only
know the arithmetic.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DISTS", "LPIPS"]

_ALEX = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
"""Stride and padding of the convolutions."""
_ALEX_STAGES = ((0,), (1,), (2,), (3,), (4,))
_ALEX_POOLED = (1, 2)
_VGG_STAGES = ((0, 1), (2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12))

_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class _Frozen(nn.Module):
    """Convolutions held as buffers, so that no optimiser and no checkpoint sees them."""

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        names: list[str],
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
    ):
        super().__init__()
        for name, values in (("mean", mean), ("deviation", deviation)):
            # A buffer, since a step that is captured as a graph may send nothing to the device.
            constant = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, constant, persistent=False)
        for name in names:
            value = torch.from_numpy(np.array(arrays[name], dtype=np.float32))
            if value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
            self.register_buffer(name.replace(".", "_"), value, persistent=False)

    def normalised(self, x: Tensor) -> Tensor:
        """Return a picture as the classifier was shown them."""
        return (x.float() - self.get_buffer("mean")) / self.get_buffer("deviation")

    def conv(self, x: Tensor, index: int, stride: int, padding: int) -> Tensor:
        weight, bias = self.get_buffer(f"conv{index}_weight"), self.get_buffer(f"conv{index}_bias")
        if torch.is_autocast_enabled(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)
            x, weight, bias = x.to(kind), weight.to(kind), bias.to(kind)
        return F.relu(F.conv2d(x, weight, bias, stride, padding))


class LPIPS(_Frozen):
    """Learned perceptual image patch similarity v0.1; 0 for equal pictures.

    Args:
        arrays: From :func:`lic.weights.perceptual.read_lpips`.
        backbone: ``alex`` or ``vgg``.
    """

    def __init__(self, arrays: dict[str, np.ndarray], backbone: str = "alex"):
        super().__init__(arrays, list(arrays), _SHIFT, _SCALE)
        self.alex = backbone == "alex"

    def features(self, x: Tensor) -> list[Tensor]:
        """Return unit-length features of five stages for ``(N, 3, H, W)`` in [-1, 1]."""
        x = self.normalised(x)
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for number, stage in enumerate(_ALEX_STAGES if self.alex else _VGG_STAGES):
            if self.alex and number in _ALEX_POOLED:
                x = F.max_pool2d(x, 3, 2)
            elif not self.alex and number:
                x = F.max_pool2d(x, 2, 2)
            for layer in stage:
                x = self.conv(x, layer, *(_ALEX[layer] if self.alex else (1, 1)))
            size = x.float().square().sum(1, keepdim=True).sqrt()
            found.append(x / (size + 1e-10).to(x.dtype))
        return found

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return distances ``(N,)``; the gradient flows to ``x_hat`` alone.

        Args:
            x, x_hat: ``(N, 3, H, W)`` in [-1, 1].
        """
        with torch.no_grad():
            wanted = self.features(x)
        return self.distance(wanted, x_hat)

    def distance(self, wanted: list[Tensor], x_hat: Tensor) -> Tensor:
        """Return the same from what :meth:`features` gives for the original."""
        total = torch.zeros(len(x_hat), device=x_hat.device)
        for number, (a, b) in enumerate(zip(wanted, self.features(x_hat), strict=True)):
            head = self.get_buffer(f"head{number}")[None, :, None, None]
            total = total + ((a - b).float().square() * head).sum(1).mean((1, 2))
        return total


class DISTS(_Frozen):
    """Deep image structure and texture similarity; 0 for equal pictures.

    Args:
        vgg: Arrays of ``read_lpips("vgg")``; only the convolutions are used.
        weights: ``alpha`` and ``beta``, ``(1475,)`` each.
    """

    def __init__(self, vgg: dict[str, np.ndarray], weights: dict[str, np.ndarray]):
        names = [n for n in vgg if n.startswith("conv")] + list(weights)
        super().__init__(vgg | weights, names, _MEAN, _STD)
        window = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(window, window), persistent=False)

    def pool(self, x: Tensor) -> Tensor:
        """Return the root of the mean square under a window, at half the size."""
        window = self.get_buffer("window").expand(x.shape[1], 1, 3, 3)
        return (F.conv2d(x.float().square(), window, None, 2, 1, 1, x.shape[1]) + 1e-12).sqrt()

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the picture and five stages for ``(N, 3, H, W)`` in [0, 1]."""
        found = [x.float()]
        x = self.normalised(x)
        for number, stage in enumerate(_VGG_STAGES):
            x = self.pool(x) if number else x
            for layer in stage:
                x = self.conv(x, layer, 1, 1)
            found.append(x)
        return found

    def moments(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        """Return means, variances and the covariance over the places, ``(N, C)`` each."""
        a, b = a.float(), b.float()
        means = a.mean((2, 3)), b.mean((2, 3))
        parts = a - means[0][..., None, None], b - means[1][..., None, None]
        variances = [p.square().mean((2, 3)) for p in parts]
        return *means, *variances, (parts[0] * parts[1]).mean((2, 3))

    def forward(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return distances ``(N,)`` of pictures ``(N, 3, H, W)`` in [0, 1]."""
        with torch.no_grad():
            wanted = self.features(x)
        return self.distance(wanted, x_hat)

    def distance(self, wanted: list[Tensor], x_hat: Tensor) -> Tensor:
        """Return the same from what :meth:`features` gives for the original."""
        alpha, beta = self.get_buffer("alpha"), self.get_buffer("beta")
        total = alpha.sum() + beta.sum()
        similar, at = torch.zeros(len(x_hat), device=x_hat.device), 0
        for a, b in zip(wanted, self.features(x_hat), strict=True):
            channels = slice(at, at + a.shape[1])
            at += a.shape[1]
            mean_a, mean_b, variance_a, variance_b, covariance = self.moments(a, b)
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a.square() + mean_b.square() + 1e-6)
            structure = (2 * covariance + 1e-6) / (variance_a + variance_b + 1e-6)
            similar = similar + (alpha[channels] * texture + beta[channels] * structure).sum(1)
        return 1 - similar / total
