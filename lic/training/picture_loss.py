"""How far a decoded picture is from the original, for codecs that are trained to look right."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lic.errors import UsageProblem
from lic.networks.perceptual import LPIPS
from lic.training.adversary import Adversary
from lic.training.config import Recipe
from lic.training.texture_loss import TextureLoss
from lic.weights.perceptual import read_dists, read_lpips

__all__ = ["PictureLoss"]

_PIXEL_LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}


class PictureLoss:
    """Weighted distances of pixels and features, and a late adversary.

    Attributes:
        metric: LPIPS with AlexNet for validation, ``None`` where the recipe has no LPIPS.

    Args:
        recipe: Its ``loss`` and ``vqgan`` tell the weights.

    Raises:
        UsageProblem: An unknown loss.
    """

    def __init__(self, recipe: Recipe):
        if recipe.loss not in _PIXEL_LOSSES:
            known = ", ".join(_PIXEL_LOSSES)
            raise UsageProblem(f"loss '{recipe.loss}' is unknown; known: {known}")
        self._pixel, self.config = _PIXEL_LOSSES[recipe.loss], recipe.vqgan
        self._lpips: list[LPIPS] = []
        self._dists: TextureLoss | None = None
        self.metric: LPIPS | None = None
        self._adversary: Adversary | None = None

    def prepare(self, device: torch.device) -> None:
        """Load what the weights of the recipe need."""
        if self.config.dists:
            self._dists = TextureLoss(read_lpips("vgg"), read_dists()).to(device)
        if not self.config.perceptual:
            return
        self.metric = LPIPS(read_lpips("alex"), "alex").to(device)
        for name in self.config.backbone.split("+"):
            own = self.metric if name == "alex" else LPIPS(read_lpips(name), name).to(device)
            self._lpips.append(own)

    def distance(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of ``(N, 3, H, W)`` in [-1, 1] without the adversary, and figures."""
        pixel = self._pixel(x_hat, x)
        mse = float(F.mse_loss(x_hat.detach(), x)) / 4
        figures = {"psnr": -10 * math.log10(max(mse, 1e-9))}
        loss = self.config.pixel * pixel
        # The first layer of AlexNet has a stride of 4: a fixed grid would leave a pattern.
        top, left = (int(v) for v in torch.randint(0, 4, (2,)))
        pair = x[:, :, top:, left:], x_hat[:, :, top:, left:]
        if self._lpips:
            perceptual = torch.stack([lpips(*pair).mean() for lpips in self._lpips]).mean()
            figures["lpips"] = float(perceptual.detach())
            loss = loss + self.config.perceptual * perceptual
        if self._dists is not None:
            # Half of the crops, since it takes longer than all the rest.
            some = slice((len(x) + 1) // 2)
            unlike = self._dists(*((p[some] + 1) / 2 for p in pair)).mean()
            figures["dists"] = float(unlike.detach())
            loss = loss + self.config.dists * unlike
        return loss, figures

    def with_adversary(
        self, x: Tensor, x_hat: Tensor, part: float
    ) -> tuple[Tensor, dict[str, float]]:
        """Return :meth:`distance` and, late in the budget, what the adversary adds to it.

        Args:
            x, x_hat: ``(N, 3, H, W)`` in [-1, 1].
            part: Of the budget that is spent.
        """
        loss, figures = self.distance(x, x_hat)
        config = self.config
        if config.adversarial and part > 0.9 * config.adversarial_from:
            self._adversary = self._adversary or Adversary(x.device)
            figures["adversary"] = self._adversary.learn(x, x_hat)
            if part > config.adversarial_from:
                loss = self._adversary.join(loss, x_hat, config.adversarial)
        return loss, figures

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {} if self._adversary is None else {"adversary": self._adversary.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        if "adversary" in state:
            device = state["adversary"]["net"]["main.0.weight"].device
            self._adversary = Adversary(device)
            self._adversary.restore(state["adversary"])
