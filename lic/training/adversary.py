"""A PatchGAN beside a decoder: hinge losses, a weight relative to the other losses' gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.networks.taming import discriminator

__all__ = ["Adversary"]

_MOST_WEIGHT = 1e4


class Adversary:
    """Discriminator and its optimiser.

    Args:
        device: Where it lives.
        lr: Learning rate of Adam, constant.
    """

    def __init__(self, device: torch.device, lr: float = 2e-4):
        self.net: nn.Module = discriminator().to(device)
        self.optimiser = torch.optim.Adam(self.net.parameters(), lr=lr, betas=(0.5, 0.9))

    def learn(self, real: Tensor, fake: Tensor) -> float:
        """Take one step on real and decoded pictures in [-1, 1]; returns the hinge loss."""
        self.net.requires_grad_(True)
        loss = F.relu(1 - self.net(real).float()).mean()
        loss = 0.5 * (loss + F.relu(1 + self.net(fake.detach()).float()).mean())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def join(self, loss: Tensor, x_hat: Tensor, weight: float) -> Tensor:
        """Return a loss whose gradient is that of ``loss`` plus the adversary's.

        The adversary's part is scaled so that its gradient with respect to the picture is
        ``weight`` times as long as the other's (the adaptive weight of Esser et al. 2021, eq. 7,
        taken at the picture instead of at the last layer, which saves a backward pass).

        Args:
            loss: Of the decoded picture, a scalar.
            x_hat: The decoded picture; ``loss`` depends on the networks through it alone.
            weight: Relative length of the adversary's gradient.
        """
        self.net.requires_grad_(False)
        (wanted,) = torch.autograd.grad(loss, x_hat, retain_graph=False)
        leaf = x_hat.detach().requires_grad_(True)
        (fooled,) = torch.autograd.grad(-self.net(leaf).float().mean(), leaf)
        scale = weight * wanted.norm() / (fooled.norm() + 1e-12)
        gradient = wanted + scale.clamp(max=_MOST_WEIGHT) * fooled
        surrogate = (x_hat * gradient.detach()).sum()
        return surrogate + (loss - surrogate).detach()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"net": self.net.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        self.net.load_state_dict(state["net"])
        self.optimiser.load_state_dict(state["optimiser"])
