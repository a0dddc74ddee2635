"""What the training loop needs to know about other synthesis networks for trained streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lic.errors import UsageProblem
from lic.evaluation.metrics import dists, lpips
from lic.networks.gains import LEVELS, SynthesisModel
from lic.networks.hyperprior import Hyperprior, HyperpriorShape, synthesis_alone
from lic.networks.prices import price_of_rate
from lic.training.adversary import Adversary
from lic.training.appearance import Appearance
from lic.training.config import Recipe
from lic.training.export import export_companion
from lic.training.growth import require_equal
from lic.training.hyperprior import HyperpriorTask
from lic.training.ladder import middle
from lic.training.latent import levels_of
from lic.training.losses import tilt_of
from lic.training.precision import mixed_precision
from lic.training.task import Progress, Start, Validation
from lic.training.validation import psnr_of, score_of
from lic.weights.store import Card, find_weights, load_tensors, network_state

__all__ = ["SynthesisTask"]

_RATES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Of validation."""

_LOSSES = ("mse", "eyes")

_DISTANCES: dict[str, Callable[..., Any]] = {
    "ssimulacra2": lambda x, shown: 100 - score_of(x, shown),
    "lpips": lpips,
    "dists": dists,
}

_HALF = LEVELS / 2

_LEARNS_FROM = 0.8
"""Part of the time before the adversary acts after which it learns."""

_RISES_FOR = 0.1
"""Part of the budget in which its weight rises."""

_LINEAR = ("g_s.linear.", "g_s.lap.")
"""Paths that mean the latents of certain weights and no others."""


class SynthesisTask:
    """Families ``synthesis-NAME``: a synthesis beside the one that trained weights have.

    Analysis, hyper-analysis and context of trained ``hyperprior`` weights make latents as the
    encoder does and stay as they are, and with them the files. The linear path starts as theirs,
    the residual layers fresh or as those of any weights of ``hyperprior``.

    With the loss ``mse`` it learns to come near the original in fewer multiplications; with
    ``eyes``, and an adversary if the recipe has one, to look like it.

    Args:
        recipe: Its ``synthesis`` names the weights; its ``network`` what differs from their shape.

    Raises:
        UsageProblem: An unknown loss, or a shape for other latents.
        WeightsError: The weights cannot be used.
    """

    def __init__(self, recipe: Recipe):
        if recipe.loss not in _LOSSES:
            raise UsageProblem(f"loss '{recipe.loss}' is unknown; known: {', '.join(_LOSSES)}")
        self.recipe, self.config = recipe, recipe.synthesis
        self._appearance = Appearance(recipe.eyes) if recipe.loss == "eyes" else None
        self._adversary: Adversary | None = None
        self.capturable = not self.config.adversarial
        prefer = "psnr" if recipe.loss == "mse" else recipe.loss
        self.card = find_weights("hyperprior", path=self.config.codec or None, prefer=prefer)
        self.coder = HyperpriorTask(replace(recipe, family="hyperprior", network={}))
        start = self.coder.read(self.card, load_tensors(self.card))
        self.codec: Hyperprior = self.coder.networks(start.shape)
        self.codec.load_state_dict(start.state)
        self.codec.eval().requires_grad_(False)
        named = {k: tuple(v) if isinstance(v, list) else v for k, v in recipe.network.items()}
        self.shape = replace(start.shape, **named)
        require_equal(asdict(start.shape), asdict(self.shape), ("latents", "lapped"))
        self._own: dict[str, list[float]] | None = None

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
        """Move the codec to the device and load what the loss needs."""
        if self._appearance is not None:
            self._appearance.prepare(device)
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
        shown = model.g_s(*latents, rate) / _HALF  # the losses depend on it alone
        x_hat = _HALF * shown
        mse = _squared(x_hat, levels)
        told: dict[str, float | Tensor] = {}
        cost, distances = self._cost(latents, levels, x_hat, mse, rate)
        loss = (cost * tilt_of(rate, self.recipe.lambdas, self.recipe.tilt)).mean()
        if self.config.adversarial:
            loss, told = self._opposed(loss, levels / _HALF, shown, progress.part)
        with torch.no_grad():
            psnr = (10 * (LEVELS**2 / mse.clamp(min=1e-4)).log10()).mean()
        return loss, {"psnr": psnr, **distances, **told}

    def _cost(
        self,
        latents: tuple[Tensor, Tensor],
        levels: Tensor,
        x_hat: Tensor,
        mse: Tensor,
        rate: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return bits a pixel that the distortion is worth ``(N,)``, and figures for the log."""
        lambdas = self.recipe.lambdas
        if self._appearance is not None:
            return self._appearance.cost(levels, x_hat, mse, rate, lambdas)
        if self.config.distillation:
            with torch.no_grad():
                shown = self.codec.g_s(*latents, rate)
            mse = torch.lerp(mse, _squared(x_hat, shown), self.config.distillation)
        return price_of_rate(rate, lambdas) * mse, {}

    def _opposed(
        self, loss: Tensor, x: Tensor, shown: Tensor, part: float
    ) -> tuple[Tensor, dict[str, float | Tensor]]:
        """Let an adversary learn and, from the recipe's part of the budget on, add what it says.

        Args:
            loss: Depends on the networks through ``shown`` alone.
            x, shown: ``(N, 3, H, W)`` in [-1, 1].
            part: Of the budget that is spent.
        """
        begin, full = self.config.adversarial_from, self.config.adversarial
        if part < _LEARNS_FROM * begin:
            return loss, {}
        self._adversary = self._adversary or Adversary(x.device)
        told: dict[str, float | Tensor] = {"adversary": self._adversary.learn(x, shown)}
        if part < begin:
            return loss, told
        weight = full * min(1.0, (part - begin) / _RISES_FOR)
        return self._adversary.join(loss, shown, weight), told

    def fuse(self, compiled: Callable[[Any], Any]) -> None:
        """Compile the likelihood, whose choice of symbols the latents need."""
        self.coder.fuse(compiled)

    def after_step(self, model: nn.Module) -> None:
        """Nothing follows a step."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {} if self._adversary is None else {"adversary": self._adversary.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        if "adversary" in state:
            self._adversary = Adversary(next(self.codec.parameters()).device)
            self._adversary.restore(state["adversary"])

    @torch.no_grad()
    def validate(
        self, model: nn.Module, tables: Any, pictures: list[Tensor], device: torch.device
    ) -> Validation:
        """Compare 8-bit output with that of the codec's own synthesis.

        The number is dB lost or, where it learns to look right, the change in percent of the
        distances that it learns by.
        """
        assert isinstance(model, SynthesisModel)
        seen = [n for n in _DISTANCES if self._appearance and getattr(self.recipe.eyes, n)]
        names = ("psnr", *seen)
        shown = self._measure(model, names, pictures, device)
        if self._own is None:
            self._own = self._measure(self.codec, names, pictures, device)
        own = self._own
        row = {
            f"{name}@{rate:.2f}": round(value, 5)
            for name in names
            for rate, value in zip(_RATES, shown[name], strict=True)
        }
        rows = [
            [rate, *(found[name][number] for name in names for found in (own, shown))]
            for number, rate in enumerate(_RATES)
        ]
        losses = np.subtract(own["psnr"], shown["psnr"])
        told = ", ".join(f"{v:.3f}" for v in losses)
        lost = float(losses.mean())
        text = f"{lost:.4f} dB less than the codec's own synthesis ({told})"
        if not seen:
            return Validation(lost, text, row, rows)
        changes = []
        for name in seen:
            change = 100 * (np.divide(shown[name], own[name]) - 1)
            each = ", ".join(f"{v:+.0f}" for v in change)
            text += f"; {name} {change.mean():+.1f} % ({each})"
            changes.append(float(change.mean()))
        return Validation(float(np.mean(changes)), text, row, rows)

    def _measure(
        self,
        model: SynthesisModel | Hyperprior,
        names: tuple[str, ...],
        pictures: list[Tensor],
        device: torch.device,
    ) -> dict[str, list[float]]:
        """Return means over pictures of metrics, a number a rate of validation."""
        measures = {"psnr": psnr_of} | _DISTANCES
        found: dict[str, list[float]] = {name: [] for name in names}
        for value in _RATES:
            rate = torch.full((1,), value, device=device)
            pairs = []
            for picture in pictures:
                height, width = (64 * (s // 64) for s in middle(picture).shape[1:])
                x = middle(picture)[None, :, :height, :width].to(device)
                with mixed_precision(device):
                    pairs.append(_bytes(x, model.g_s(*self.latents(levels_of(x), rate), rate)))
            for name in names:
                found[name].append(float(np.mean([measures[name](*pair) for pair in pairs])))
        return found

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


def _bytes(x: Tensor, levels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return an original and what is shown of it, uint8 ``(H, W, 3)``."""
    shown = (levels + LEVELS / 2).round().clamp(0, 255)
    pair = [t[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy() for t in (x, shown)]
    return pair[0], pair[1]
