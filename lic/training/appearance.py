"""How unlike pictures are to people, as a distortion with a price in bits: ``loss = "eyes"``.

A metric that is trained on is met by its own rules before it is met by looking better, so several
share the work: squared error keeps the picture true, SSIMULACRA 2 places the bits where they are
seen, and LPIPS or DISTS look after texture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lic.networks.gains import LEVELS
from lic.networks.perceptual import LPIPS
from lic.networks.prices import DISTANCE_PRICES, price_of_rate
from lic.networks.ssimulacra2 import Ssimulacra2
from lic.training.config import EyesConfig
from lic.training.texture_loss import TextureLoss
from lic.weights.perceptual import read_dists, read_lpips

__all__ = ["Appearance", "frequencies"]

_LPIPS_STRIDE = 4
"""Of AlexNet's first layer: a grid that stood still would leave a pattern."""


class Appearance:
    """Distances of decoded pictures, weighed by shares.

    Args:
        config: Shares.
    """

    def __init__(self, config: EyesConfig):
        self.config = config
        self._ssimulacra2 = Ssimulacra2()
        self._lpips: LPIPS | None = None
        self._dists: TextureLoss | None = None

    def prepare(self, device: torch.device) -> None:
        """Load what the shares need.

        Raises:
            InputError: Weights of LPIPS or DISTS are not installed.
        """
        self._ssimulacra2.to(device)
        if self.config.lpips:
            self._lpips = LPIPS(read_lpips("alex"), "alex").to(device)
        if self.config.dists:
            self._dists = TextureLoss(read_lpips("vgg"), read_dists()).to(device)

    def cost(
        self, levels: Tensor, shown: Tensor, mse: Tensor, rate: Tensor, lambdas: tuple[float, float]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return bits a pixel that the distortion is worth ``(N,)``, and figures for the log.

        Args:
            levels, shown: ``(N, 3, H, W)`` around mid-grey.
            mse: Squared error in levels, ``(N,)``.
            rate: ``(N,)`` in [0, 1].
            lambdas: Bits a pixel that a squared level is worth at rate 0 and 1.
        """
        total = self.config.squared * price_of_rate(rate, lambdas) * mse
        figures = {}
        for name, distance in self._distances(levels, shown).items():
            share = getattr(self.config, name)
            total = total + share * price_of_rate(rate, DISTANCE_PRICES[name]) * distance
            figures[name] = distance.detach().mean()
        return total, figures

    def _distances(self, levels: Tensor, shown: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with torch.autocast(levels.device.type, enabled=False):
            x, x_hat = (t.float() / LEVELS + 0.5 for t in (levels, shown))
            if self.config.ssimulacra2:
                found["ssimulacra2"] = 100 - self._ssimulacra2(x, x_hat)
        if self._lpips is not None:
            found["lpips"] = self._lpips(*(2 * t - 1 for t in _shifted(x, x_hat)))
        if self._dists is not None:
            found["dists"] = self._dists(x, x_hat)
        return found


def _shifted(*pictures: Tensor) -> list[Tensor]:
    """Leave out a few random first rows and columns, the same of all, without a look at them."""
    device = pictures[0].device
    for dim in (2, 3):
        size = pictures[0].shape[dim] - _LPIPS_STRIDE
        first = torch.randint(0, _LPIPS_STRIDE, (1,), device=device)
        places = torch.arange(size, device=device) + first
        pictures = tuple(p.index_select(dim, places) for p in pictures)
    return list(pictures)


def frequencies(components: Tensor) -> Tensor:
    """Return the mean spatial frequency of linear components, cycles a pixel, ``(M,)``.

    Args:
        components: ``(M, 3 * s * s)`` in the order of ``pixel_unshuffle``.
    """
    side = round((components.shape[1] / 3) ** 0.5)
    power = torch.fft.fft2(components.float().reshape(-1, 3, side, side)).abs().square().sum(1)
    along = torch.fft.fftfreq(side)
    radius = torch.hypot(along[:, None], along[None])
    return (power * radius).sum((1, 2)) / power.sum((1, 2))
