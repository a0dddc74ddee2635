"""What the training loop needs to know about other synthesis networks for trained streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.networks.gains import LEVELS, SynthesisModel
from lic.networks.hyperprior import Hyperprior, HyperpriorShape, synthesis_alone
from lic.training.config import Recipe
from lic.training.export import export_companion
from lic.training.growth import require_equal
from lic.training.hyperprior import HyperpriorTask
from lic.training.ladder import middle
from lic.training.latent import levels_of
from lic.training.losses import lambda_of_rate, tilt_of
from lic.training.precision import mixed_precision
from lic.training.task import Progress, Start, Validation
from lic.training.validation import psnr_of
from lic.weights.store import Card, find_weights, load_tensors, network_state

__all__ = ["SynthesisTask"]

_RATES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Of validation."""

_LINEAR = ("g_s.linear.", "g_s.lap.")
"""Paths that mean the latents of certain weights and no others."""


class SynthesisTask:
    """Families ``synthesis-NAME``: a synthesis beside the one that trained weights have.

    Analysis, hyper-analysis and context of trained ``hyperprior`` weights make latents as the
    encoder does and stay as they are, and with them the files. The linear path starts as theirs,
    the residual layers fresh or as those of any weights of ``hyperprior``.

    Args:
        recipe: Its ``synthesis`` names the weights; its ``network`` what differs from their shape.

    Raises:
        UsageProblem: A loss other than ``mse``, or a shape for other latents.
        WeightsError: The weights cannot be used.
    """

    capturable = True

    def __init__(self, recipe: Recipe):
        if recipe.loss != "mse":
            raise UsageProblem(f"loss '{recipe.loss}' is unknown; known: mse")
        self.recipe, self.config = recipe, recipe.synthesis
        self.card = find_weights("hyperprior", path=self.config.codec or None)
        self.coder = HyperpriorTask(replace(recipe, family="hyperprior", network={}))
        start = self.coder.read(self.card, load_tensors(self.card))
        self.codec: Hyperprior = self.coder.networks(start.shape)
        self.codec.load_state_dict(start.state)
        self.codec.eval().requires_grad_(False)
        named = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.network.items()}
        self.shape = replace(start.shape, **named)
        require_equal(asdict(start.shape), asdict(self.shape), ("latents", "lapped"))
        self._own: list[float] | None = None

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape."""
        return synthesis_alone(self.shape)

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return the state of exported networks."""
        runs = list(card.training.get("runs", []))
        return Start(network_state(tensors), HyperpriorShape(**card.shape()), runs)

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
        """Return fresh networks whose linear path is that of the codec."""
        model = self.empty()
        state = self.codec.state_dict()
        model.load_state_dict({k: state[k] for k in state if k.startswith(_LINEAR)}, strict=False)
        return model

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``fresh`` with what fits of trained layers; blocks beyond the recipe's are left.

        Args:
            state: State dict of another synthesis, or of a codec, whose linear path may mean other
                latents and is left too.
            old: Their shape.
            fresh: As :meth:`build` starts them.
        """
        whole = any(name.startswith("g_a.") for name in state)
        kept = _LINEAR if whole else ()
        fitting = {
            name: state[name].to(value)
            for name, value in fresh.items()
            if name in state and state[name].shape == value.shape and not name.startswith(kept)
        }
        return fresh | fitting

    def prepare(self, model: nn.Module, device: torch.device) -> None:
        """Move the codec to the device."""
        self.codec.to(device)
        self.codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def latents(self, levels: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return y_hat in levels and in deviations, ``(N, M, H/16, W/16)``, as a decoder gets them.

        Args:
            levels: ``(N, 3, H, W)`` around mid-grey, sides multiples of 64.
            rate: ``(N,)`` in [0, 1].
        """
        codec = self.codec
        y = codec.analyse(levels, rate)
        rates = codec.loop_rates(rate, *y.shape[-2:])
        gain = codec.log_gains(rate).exp()
        y_hat, _, _ = self.coder.code(codec, y * gain, rate, rates, rounded=True)
        return y_hat / gain, y_hat * rates.reciprocal

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Return the mean of lambda * D / lambda^tilt and figures for the log.

        Args:
            model: :class:`lic.networks.gains.SynthesisModel`.
            x: uint8 ``(N, 3, H, W)``, sides multiples of 64.
            rate: ``(N,)`` in [0, 1].
            progress: Not used.
        """
        assert isinstance(model, SynthesisModel)
        levels = levels_of(x)
        latents = self.latents(levels, rate)
        x_hat = model.g_s(*latents, rate)
        mse = _squared(x_hat, levels)
        distortion = mse
        if self.config.distillation:
            with torch.no_grad():
                shown = self.codec.g_s(*latents, rate)
            distortion = torch.lerp(mse, _squared(x_hat, shown), self.config.distillation)
        lambdas = self.recipe.lambdas
        weight = lambda_of_rate(rate, lambdas) * tilt_of(rate, lambdas, self.recipe.tilt)
        with torch.no_grad():
            psnr = (10 * (LEVELS**2 / mse.clamp(min=1e-4)).log10()).mean()
        return (weight * distortion).mean(), {"psnr": psnr}

    def fuse(self, compiled: Callable[[Any], Any]) -> None:
        """Compile the likelihood, whose choice of symbols the latents need."""
        self.coder.fuse(compiled)

    def after_step(self, model: nn.Module) -> None:
        """Nothing follows a step."""

    def state(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing is restored."""

    @torch.no_grad()
    def validate(
        self, model: nn.Module, tables: Any, pictures: list[Tensor], device: torch.device
    ) -> Validation:
        """Compare PSNR of 8-bit output with that of the codec's own synthesis."""
        assert isinstance(model, SynthesisModel)
        ours: list[list[float]] = [[] for _ in _RATES]
        own: list[list[float]] = [[] for _ in _RATES]
        for picture in pictures:
            height, width = (64 * (s // 64) for s in middle(picture).shape[1:])
            x = middle(picture)[None, :, :height, :width].to(device)
            for number, value in enumerate(_RATES):
                rate = torch.full((1,), value, device=device)
                with mixed_precision(device):
                    latents = self.latents(levels_of(x), rate)
                    ours[number].append(_psnr(x, model.g_s(*latents, rate)))
                    if self._own is None:
                        own[number].append(_psnr(x, self.codec.g_s(*latents, rate)))
        found = [float(np.mean(values)) for values in ours]
        self._own = self._own or [float(np.mean(values)) for values in own]
        losses = [before - after for before, after in zip(self._own, found, strict=True)]
        row = {f"loss@{rate:.2f}": round(v, 5) for rate, v in zip(_RATES, losses, strict=True)}
        told = ", ".join(f"{v:.3f}" for v in losses)
        lost = float(np.mean(losses))
        text = f"{lost:.4f} dB less than the codec's own synthesis ({told})"
        rows = [list(point) for point in zip(_RATES, self._own, found, strict=True)]
        return Validation(lost, text, row, rows)

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Nothing is fitted at the end."""
        return None, "synthesis trained"

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship; the card carries the fingerprint of the codec."""
        assert isinstance(model, SynthesisModel)
        family = self.recipe.family
        return export_companion(model, model.shape, family, self.card, name, training)


def _squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).mean(1)


def _psnr(x: Tensor, levels: Tensor) -> float:
    shown = (levels + LEVELS / 2).round().clamp(0, 255)
    pair = [t[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy() for t in (x, shown)]
    return psnr_of(pair[0], pair[1])
