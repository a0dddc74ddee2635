"""DISTS as a loss: the arithmetic of :class:`lic.networks.perceptual.DISTS` in half the time.

The features of VGG at full size are large, so that passes over memory cost more than convolutions;
here what autograd would do in many passes is done in few, in the precision of autocast.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lic.networks.perceptual import DISTS

__all__ = ["TextureLoss"]


class _Moments(torch.autograd.Function):
    """Means of b, b² and ab over the places of each channel; the gradient flows to b alone."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(a, b)
        return tuple(v.float().mean((2, 3)) for v in (b, b * b, a * b))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        a, b = ctx.saved_tensors
        places = a.shape[2] * a.shape[3]
        one, square, product = (g[..., None, None].to(b.dtype) / places for g in grads)
        return None, torch.addcmul(torch.addcmul(one, 2 * square, b), product, a)


class _Pool(torch.autograd.Function):
    """Root of the mean square under the window (1, 2, 1)/4 by (1, 2, 1)/4, at half the size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = window.to(x.dtype).expand(channels, 1, 3, 3)
        y = (F.conv2d(x * x, kernel, None, 2, 1, 1, channels) + 1e-12).sqrt()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        # dy/dx = weight * x / y: first what each place of x gets from the windows over it.
        spread = _between(_between(grad / y, 2), 3)
        return x * spread[:, :, : x.shape[2], : x.shape[3]], None


def _between(g: Tensor, dim: int) -> Tensor:
    """Undo one side of the window: even places get half of one window, odd ones of two a quarter.

    Args:
        g: ``(N, C, h, w)``.
        dim: 2 or 3, which doubles.
    """
    following = torch.cat([g.narrow(dim, 1, g.shape[dim] - 1), g.narrow(dim, 0, 1) * 0], dim)
    return torch.stack([0.5 * g, 0.25 * (g + following)], dim + 1).flatten(dim, dim + 1)


class TextureLoss(DISTS):
    """DISTS whose gradient flows to the second picture alone, for training under autocast."""

    def pool(self, x: Tensor) -> Tensor:
        """Return what :meth:`DISTS.pool` does, in the precision of ``x``."""
        pooled: Tensor = _Pool.apply(x, self.get_buffer("window"))  # type: ignore[no-untyped-call]
        return pooled

    def moments(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        """Return what :meth:`DISTS.moments` does; variances of a float32 sum of rounded squares."""
        found = _Moments.apply(a, b)  # type: ignore[no-untyped-call]
        mean_a, mean_b = a.float().mean((2, 3)), found[0]
        variance_a = (a * a).float().mean((2, 3)) - mean_a.square()
        return (
            mean_a,
            mean_b,
            variance_a.clamp(min=0),
            (found[1] - mean_b.square()).clamp(min=0),
            found[2] - mean_a * mean_b,
        )
