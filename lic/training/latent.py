"""What the training loop needs to know about families that code latents with gains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lic.coding.tables import ProbabilityTables
from lic.errors import UsageProblem
from lic.evaluation.metrics import MS_SSIM_LEAST_SIDE
from lic.networks.context import LOG_STEPS_PER_NAT, LoopRates
from lic.networks.gains import DOWNSAMPLING, LEVELS, SMALLEST_SCALE, GainModel
from lic.networks.lapped import LappedFilter
from lic.networks.likelihood import code_softly, gaussian_bits, round_ste
from lic.networks.prices import price_of_rate
from lic.networks.steps import split
from lic.training.appearance import Appearance, frequencies
from lic.training.config import Recipe
from lic.training.data import principal_components
from lic.training.export import export_latent, import_latent
from lic.training.fitting import byte_curve, fit_tables, has_coder, temporary_codec
from lic.training.lapping import fit_lapped_matrix
from lic.training.losses import ms_ssim, tilt_of
from lic.training.task import Progress, Start, Validation
from lic.training.validation import QUALITIES, curve, jpeg_curve, rate_change
from lic.weights.store import Card

__all__ = ["LatentTask", "Passing", "bits_of", "levels_of", "noisy"]

_MS_SSIM_SCALE = 1300.0
"""Squared levels that 1 - MS-SSIM is worth: the ratio of CompressAI's lambdas for both losses."""

_TRAINED: dict[str, tuple[str, ...]] = {
    "all": ("",),
    "context": ("h_a.", "context.", "z_scales."),
    "gains": ("gains.",),
    "stream": ("g_a.", "h_a.", "context.", "z_scales.", "gains."),
}
"""What trains, by the beginnings of its names."""


def bits_of(values: Tensor, positions: Tensor) -> Tensor:
    """Return the bits of values whose tables stand at these positions."""
    return gaussian_bits(values, positions, SMALLEST_SCALE, LOG_STEPS_PER_NAT)


def levels_of(x: Tensor) -> Tensor:
    """Return levels around mid-grey of crops, uint8 ``(N, 3 or more, H, W)``."""
    levels = x[:, :3].to(torch.float32) - LEVELS / 2
    return levels.contiguous(memory_format=torch.channels_last)


_TUNES = {"mse": "psnr"}
"""What weights are called that were trained with a loss, where that is not the loss's name."""


class Passing:
    """How one batch passes the transforms; families may remember between them what both need.

    Args:
        model: :class:`lic.networks.gains.GainModel`.

    Attributes:
        side_bits: ``(N,)`` bits of what is coded before the latents, or 0.
        penalty: Added to the loss.
    """

    def __init__(self, model: Any):
        self.model = model
        self.side_bits: Tensor | float = 0.0
        self.penalty: Tensor | float = 0.0

    def analyse(self, levels: Tensor, rate: Tensor) -> Tensor:
        """Return latents."""
        y: Tensor = self.model.analyse(levels, rate)
        return y

    def synthesise(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return levels."""
        levels: Tensor = self.model.synthesise(y_hat, normalised, rate)
        return levels


def _same_linear_paths(old: Any, new: Any) -> bool:
    return bool(old.latents == new.latents and old.lapped == new.lapped)


class LatentTask(ABC):
    """Builds the networks, turns a batch into a loss and measures rate and distortion."""

    capturable = True

    def __init__(self, recipe: Recipe):
        if recipe.loss not in QUALITIES:
            raise UsageProblem(f"loss '{recipe.loss}' is unknown; known: {', '.join(QUALITIES)}")
        if recipe.train not in _TRAINED:
            raise UsageProblem(f"train '{recipe.train}' is unknown; known: {', '.join(_TRAINED)}")
        side = min(recipe.data.crop, recipe.data.late_crop)
        if recipe.loss == "ms-ssim" and side < MS_SSIM_LEAST_SIDE:
            raise UsageProblem(
                f"ms-ssim needs crops of {MS_SSIM_LEAST_SIDE} pixels, not {side}: "
                "data.crop and data.late_crop"
            )
        self.recipe, self._quality = recipe, QUALITIES[recipe.loss]
        self._appearance = Appearance(recipe.eyes) if recipe.loss == "eyes" else None
        self._anchor: np.ndarray | None = None
        self._code_softly = code_softly

    @abstractmethod
    def shape(self, named: dict[str, Any]) -> Any:
        """Return the family's shape; ``named`` are those of its fields that are not the usual."""

    @abstractmethod
    def networks(self, shape: Any) -> GainModel:
        """Return fresh networks of a shape."""

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape."""
        return self.networks(self.shape(self.recipe.network))

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return the state of exported networks."""
        runs = list(card.training.get("runs", []))
        state = import_latent(tensors)
        if self._appearance is not None and self.recipe.eyes.focus:
            found = frequencies(state["g_a.linear.weight"].flatten(1))
            state["gains.base"] -= self.recipe.eyes.focus * (found / found.median()).log()
        return Start(state, self.shape(card.shape()), runs)

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
        """Return fresh networks started at the statistics of the training pictures."""
        shape = self.shape(self.recipe.network)
        model = self.networks(shape)
        if initial is not None and _same_linear_paths(initial.shape, shape):
            return model
        matrix, prefilter = None, None
        if shape.lapped:
            matrix, prefilter = fit_lapped_matrix(pictures), LappedFilter().requires_grad_(False)
            prefilter.weight.copy_(matrix)
        components, deviations = principal_components(
            pictures, DOWNSAMPLING, shape.latents, prefilter
        )
        order = self.component_order(shape.latents)
        model.start_from_components(components[order], deviations[order], matrix)
        return model

    def component_order(self, latents: int) -> Tensor:
        """Return which principal component each latent starts at, by size from 0."""
        return torch.arange(latents)

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``state``; networks of another shape cannot start from it.

        Raises:
            UsageProblem: The shapes differ.
        """
        if old != self.shape(self.recipe.network):
            raise UsageProblem("the weights' network has another shape than the recipe's")
        return state

    def passing(self, model: nn.Module, x: Tensor, rounded: bool) -> Passing:
        """Return how a batch passes the transforms; arguments as of :meth:`forward`."""
        return Passing(model)

    def forward(
        self, model: nn.Module, x: Tensor, rate: Tensor, rounded: bool
    ) -> dict[str, Tensor]:
        """Run a batch through all networks.

        Args:
            model: :class:`lic.networks.gains.GainModel`.
            x: uint8 ``(N, 3, H, W)`` with sides that are multiples of 64; a fourth channel tells
                regions, see :func:`lic.training.data.load_pictures`.
            rate: ``(N,)`` in [0, 1].
            rounded: Estimate bits of rounded symbols (validation) or of noisy ones (training).

        Returns:
            ``x_hat`` and ``levels`` ``(N, 3, H, W)`` around mid-grey; ``mse``, ``y_bits``,
            ``z_bits``, ``side_bits`` and ``penalty`` ``(N,)``. Where the context trains alone there
            is no ``x_hat``, and ``mse`` is that of the latents.
        """
        assert isinstance(model, GainModel)
        passing = self.passing(model, x, rounded)
        levels = levels_of(x)
        context_alone = self.recipe.train == "context" and not rounded
        with torch.set_grad_enabled(torch.is_grad_enabled() and not context_alone):
            y = passing.analyse(levels, rate)
            rates = model.loop_rates(rate, *y.shape[-2:])
            gain = model.log_gains(rate).exp()
            y = y * gain
        y_hat, y_bits, z_bits = self.code(model, y, rate, rates, rounded)
        shown = {}
        if context_alone:
            # The linear paths are close to orthonormal: an error of latents is one of pixels.
            shown["mse"] = ((y_hat - y) / gain).square().flatten(1).sum(1) / levels[0].numel()
        else:
            x_hat = passing.synthesise(y_hat / gain, y_hat * rates.reciprocal, rate)
            shown["x_hat"] = x_hat
            shown["mse"] = (x_hat - levels).square().flatten(1).mean(1)
        return shown | {
            "levels": levels,
            "y_bits": y_bits,
            "z_bits": z_bits,
            "side_bits": passing.side_bits + torch.zeros_like(z_bits),
            "penalty": passing.penalty + torch.zeros_like(z_bits),
        }

    def code(
        self, model: GainModel, y: Tensor, rate: Tensor, rates: LoopRates, rounded: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Choose symbols as the encoder does.

        Args:
            model: Its hyper-analysis and context are used.
            y: ``(N, M, h, w)`` in quantiser steps.
            rate: ``(N,)`` in [0, 1].
            rates: What these rates mean to the loop.
            rounded: As of :meth:`forward`.

        Returns:
            y_hat in quantiser steps, bits of y and of z ``(N,)``.
        """
        z = model.h_a(y * rates.reciprocal, rate)
        z_positions = model.z_positions(rate).expand_as(z)
        z_hat = round_ste(z)
        z_bits = bits_of(z_hat if rounded else noisy(z), z_positions).flatten(1).sum(1)
        y_bits = torch.zeros_like(z_bits)
        parts = model.context.order.take_all(split(y))

        def quantise(step: int, means: Tensor, positions: Tensor) -> Tensor:
            nonlocal y_bits
            offset = parts[step] - means.float()
            symbols, bits = self._code_softly(
                offset,
                positions,
                None if rounded else torch.rand_like(offset) - 0.5,
                smallest=SMALLEST_SCALE,
                per_nat=LOG_STEPS_PER_NAT,
                rdo_weight=self.recipe.rdo_weight,
                hard_rate=self.recipe.hard_rate,
            )
            y_bits = y_bits + bits
            return symbols + means

        return model.context(z_hat, rates, quantise), y_bits, z_bits

    def prepare(self, model: nn.Module, device: torch.device) -> None:
        """Freeze what does not train."""
        trained = _TRAINED[self.recipe.train]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(trained))
        if self._appearance is not None:
            self._appearance.prepare(device)

    def fuse(self, compiled: Callable[[Any], Any]) -> None:
        """Replace the likelihood by a compiled one."""
        self._code_softly = compiled(code_softly)

    def after_step(self, model: nn.Module) -> None:  # noqa: B027
        """Nothing follows."""

    def state(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Nothing is restored."""

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """Return the mean of (lambda * D + R) / lambda^tilt and figures for the log."""
        out = self.forward(model, x, rate, rounded=False)
        pixels = x.shape[2] * x.shape[3]
        bpp = (out["y_bits"] + out["z_bits"] + out["side_bits"]) / pixels
        mse = out["mse"]
        tilt = tilt_of(rate, self.recipe.lambdas, self.recipe.tilt)
        distortion, more = self._distortion(out, rate)
        loss = ((distortion + bpp) * tilt).mean()
        loss = loss + out["penalty"].mean()
        with torch.no_grad():
            figures = {
                "bpp": bpp.mean(),
                "z_bpp": out["z_bits"].mean() / pixels,
                "side_bpp": out["side_bits"].mean() / pixels,
                "psnr": (10 * (LEVELS**2 / mse.clamp(min=1e-4)).log10()).mean(),
            }
        return loss, figures | more

    def _distortion(self, out: dict[str, Tensor], rate: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return bits a pixel that the distortion is worth ``(N,)``, and figures for the log."""
        lambdas = self.recipe.lambdas
        if "x_hat" in out and self._appearance is not None:
            pair = out["levels"], out["x_hat"]
            return self._appearance.cost(*pair, out["mse"], rate, lambdas)
        dissimilar = "x_hat" in out and self.recipe.loss == "ms-ssim"
        distance = self._dissimilarity(out) if dissimilar else out["mse"]
        return price_of_rate(rate, lambdas) * distance, {}

    @staticmethod
    def _dissimilarity(out: dict[str, Tensor]) -> Tensor:
        """Return 1 - MS-SSIM in what it is worth in squared levels, ``(N,)``."""
        pair = [out[k].float() / LEVELS + 0.5 for k in ("levels", "x_hat")]
        with torch.autocast(pair[0].device.type, enabled=False):
            return _MS_SSIM_SCALE * (1 - ms_ssim(pair[0], pair[1]))

    @torch.no_grad()
    def measure(self, model: nn.Module, x: Tensor, rate: float) -> dict[str, float]:
        """Return estimated bpp and quality of 8-bit output for one picture ``(3, H, W)`` uint8."""
        height, width = (64 * (s // 64) for s in x.shape[1:])
        x = x[None, :, :height, :width]
        out = self.forward(model, x, torch.full((1,), rate, device=x.device), rounded=True)
        shown = (out["x_hat"] + LEVELS / 2).round().clamp(0, 255)
        pair = [t[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy() for t in (x, shown)]
        bits = sum(float(out[k]) for k in ("y_bits", "z_bits", "side_bits"))
        return {
            "bpp": bits / (height * width),
            "quality": self._quality.measure(pair[0], pair[1]),
        }

    def validate(
        self,
        model: nn.Module,
        tables: dict[str, Tensor] | None,
        pictures: list[Tensor],
        device: torch.device,
    ) -> Validation:
        """Compare with JPEG: files are written and counted, or bits estimated without the coder."""
        if self._anchor is None:
            self._anchor = jpeg_curve(pictures, self._quality.measure)
        if has_coder():
            codec = temporary_codec(self, model, tables)
            points, kind = byte_curve(codec, pictures, self._quality.measure), "whole files"
        else:
            points, kind = curve(self, model, pictures, device), "estimated bits"
        change = rate_change(self._anchor, points, self._quality.span)
        row: dict[str, Any] = {"bd": change}
        for rate, bpp, quality in points:
            row |= {f"bpp@{rate:.2f}": bpp, f"{self._quality.column}@{rate:.2f}": quality}
        row = {k: round(v, 5) for k, v in row.items()}
        row |= {"bpp": kind, "tables": "fitted" if tables else ""}
        text = f"{change:+.2f} % against JPEG at equal {self._quality.name} ({kind})"
        return Validation(change, text, row, points.tolist())

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Fit the probability tables to training pictures."""
        if not has_coder():
            return None, "tables stay Gaussian, since the range coder is not installed here"
        fitted = fit_tables(self, model, pictures).to_arrays()
        return {k: torch.from_numpy(v.copy()) for k, v in fitted.items()}, "tables fitted"

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship; see :func:`lic.training.export.export_latent`."""
        assert isinstance(model, GainModel)
        training["tables"] = "fitted to the training pictures" if tables else "Gaussian"
        family, tune = self.recipe.family, _TUNES.get(self.recipe.loss, self.recipe.loss)
        return export_latent(model, family, name, training, _tables(tables), tune)


def _tables(stored: dict[str, Tensor] | None) -> ProbabilityTables | None:
    if stored is None:
        return None
    return ProbabilityTables.from_arrays({k: v.numpy() for k, v in stored.items()})


def noisy(x: Tensor) -> Tensor:
    """Add the error of rounding, uniform in [-1/2, 1/2)."""
    return x + torch.rand_like(x) - 0.5
