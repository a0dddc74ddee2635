"""Tune an imported VQGAN for one rung: its codebook and the 1x1 convolutions around it.

Encoder and decoder stay as they were, so a few minutes bring a clustered codebook back to what the
decoder expects (Mao et al. 2024, arXiv 2307.08265, section 3.2 as their code has it). The weights
that come out end at that rung: their files are others than before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.mixing import TreeStart
from lic.errors import UsageProblem
from lic.networks.taming import TamingShape, TamingVqgan
from lic.training.codebook import build_ladder, perplexity
from lic.training.config import Recipe
from lic.training.export import export_vqgan
from lic.training.fitting import has_coder
from lic.training.ladder import fit_start, uses_of
from lic.training.picture_loss import PictureLoss
from lic.training.rungs import measure_rungs
from lic.training.task import Progress, Start, Validation
from lic.weights.store import Card, network_state

__all__ = ["RungTask"]


class _Tuned(nn.Module):
    """An imported model whose codebook of one rung is a parameter."""

    def __init__(self, shape: TamingShape):
        super().__init__()
        self.shape = shape
        self.model = TamingVqgan(shape)
        self.codebook = nn.Parameter(torch.zeros(2**shape.top, shape.embed))

    def tuned(self) -> TamingVqgan:
        """Return the model with the codebook in its ladder."""
        with torch.no_grad():
            self.model.ladder.rung(self.shape.top).copy_(self.codebook)
        return self.model


class RungTask:
    """The stage ``rung`` of ``vqgan``, for models of taming-transformers alone."""

    capturable = False

    def __init__(self, recipe: Recipe):
        self.recipe, self.config = recipe, recipe.vqgan
        self.picture_loss = PictureLoss(recipe)

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape; its finest rung is the one that is tuned."""
        if "ch_mult" not in self.recipe.network:
            raise UsageProblem("stage 'rung' tunes imported weights: --init WEIGHTS")
        named = dict(self.recipe.network)
        for key in ("ch_mult", "attention"):  # lists after a run's JSON
            named[key] = tuple(named[key])
        shape, bits = TamingShape(**named), self.config.bits
        return _Tuned(replace(shape, top=bits, bottom=min(shape.bottom, bits)))

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return the state of imported networks.

        Raises:
            UsageProblem: They were not imported, or have no such rung.
        """
        if "ch_mult" not in card.network:
            raise UsageProblem(f"stage 'rung' tunes imported weights; '{card.name}' are none")
        shape = TamingShape(**card.shape())
        if not shape.bottom <= self.config.bits <= shape.top:
            sizes = f"{2**shape.bottom} to {2**shape.top}"
            raise UsageProblem(f"no codebook of {2**self.config.bits} in the weights; {sizes}")
        heap = tensors["codebook.ladder"].float()
        state = {f"model.{k}": v for k, v in network_state(tensors).items()}
        rung = 2**self.config.bits
        state["model.ladder.vectors"] = heap[: 2 * rung]
        state["codebook"] = heap[rung : 2 * rung]
        return Start(state, shape, list(card.training.get("runs", [])))

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
        """Return networks that the start's state will fill."""
        return self.empty()

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``state``: the recipe's network is that of the weights."""
        return state

    def prepare(self, model: nn.Module, device: torch.device) -> None:
        """Freeze everything but the codebook and both 1x1 convolutions."""
        assert isinstance(model, _Tuned)
        self.picture_loss.prepare(device)
        model.model.requires_grad_(False)
        model.model.decoder.post_quant_conv.requires_grad_(True)
        if not model.shape.gumbel:  # its vectors come out of an argmax, without a gradient
            model.model.encoder.quant_conv.requires_grad_(True)

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the distance of pictures, and of vectors to codewords from both sides.

        Args:
            model: From :meth:`build`.
            x: uint8 ``(N, 3, H, W)``.
            rate: Not used.
            progress: Where the run stands.
        """
        assert isinstance(model, _Tuned)
        bits = model.shape.top
        pixels = (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        z = model.model.encoder(pixels)
        indices = model.tuned().ladder.nearest(z.detach(), bits)
        c = model.codebook[indices].permute(0, 3, 1, 2)
        known = torch.ones_like(z[:, :1])
        x_hat = model.model.decoder(z + (c - z).detach(), known, rate)
        loss, figures = self.picture_loss.with_adversary(pixels, x_hat, progress.part)
        vectors = F.mse_loss(c, z.detach()) + self.config.commitment * F.mse_loss(z, c.detach())
        used = perplexity(torch.bincount(indices.reshape(-1), minlength=2**bits))
        return loss + vectors, figures | {"vectors": float(vectors.detach()), "perplexity": used}

    def fuse(self, compiled: Callable[[Any], Any]) -> None:
        """There is little to fuse."""

    def after_step(self, model: nn.Module) -> None:
        """Nothing follows a step."""

    def state(self) -> dict[str, Any]:
        """Return the adversary."""
        return self.picture_loss.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        self.picture_loss.restore(state)

    def validate(
        self, model: nn.Module, tables: Any, pictures: list[Tensor], device: torch.device
    ) -> Validation:
        """Measure LPIPS (AlexNet) and PSNR at the rung, of uncoded indices."""
        assert isinstance(model, _Tuned)
        metric = self.picture_loss.metric
        (at,) = measure_rungs(model.tuned(), pictures, [model.shape.top], metric)
        row = {"lpips": round(at.lpips, 5), "psnr": round(at.psnr, 3), "perplexity": at.perplexity}
        curve = [[at.bits, at.lpips, at.psnr, at.perplexity]]
        return Validation(-at.psnr if metric is None else at.lpips, str(at), row, curve)

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Build the rungs below from the tuned codebook, and the start of the index coder."""
        assert isinstance(model, _Tuned)
        tuned = model.tuned()
        use = uses_of(tuned, pictures, model.codebook.detach())
        codewords = model.codebook.detach().cpu().numpy()
        heap, order = build_ladder(codewords, use, model.shape.bottom, unit=False)
        with torch.no_grad():
            tuned.ladder.vectors.copy_(torch.from_numpy(heap))
            model.codebook.copy_(torch.from_numpy(codewords[order]))
        if not has_coder():
            return None, "rung tuned, index coder starts empty, since it is not installed here"
        start = fit_start(tuned, pictures)
        return {
            k: torch.from_numpy(v) for k, v in start.arrays().items()
        }, "rung tuned, ladder built"

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to keep; imported weights are not for shipping."""
        assert isinstance(model, _Tuned)
        start = tables and TreeStart.of_arrays({k: v.numpy() for k, v in tables.items()})
        return export_vqgan(model.tuned(), name, training, start or None)
