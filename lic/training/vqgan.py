"""What the training loop needs to know about the ``vqgan`` family."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.coding.tree import TreeStart
from lic.errors import UsageProblem
from lic.networks.perceptual import LPIPS
from lic.networks.vqgan import DOWNSAMPLING, Vqgan, VqganShape
from lic.training.adversary import Adversary
from lic.training.codebook import MovingCodebook, perplexity, spherical_kmeans
from lic.training.config import Recipe
from lic.training.data import principal_components
from lic.training.export import export_vqgan
from lic.training.fitting import has_coder
from lic.training.ladder import fit_ladder, fit_start, middle
from lic.training.task import Progress, Start, Validation
from lic.weights.perceptual import read_lpips
from lic.weights.store import Card, network_state

__all__ = ["VqganTask"]

_PIXEL_LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss}
_STAGES = ("codebook", "decoder")
_START_VECTORS = 50_000
_VALID_RUNGS = (3, 5, 7, 9, 10, 11, 12)


class VqganTask:
    """Builds the networks, turns a batch into a loss and measures what comes back."""

    def __init__(self, recipe: Recipe):
        if recipe.loss not in _PIXEL_LOSSES:
            known = ", ".join(_PIXEL_LOSSES)
            raise UsageProblem(f"loss '{recipe.loss}' is unknown; known: {known}")
        if recipe.vqgan.stage not in _STAGES:
            known = ", ".join(_STAGES)
            raise UsageProblem(f"stage '{recipe.vqgan.stage}' is unknown; known: {known}")
        self.recipe, self.config = recipe, recipe.vqgan
        self.lpips: LPIPS | None = None
        self.metric: LPIPS | None = None
        self.codebook: MovingCodebook | None = None
        self.adversary: Adversary | None = None
        self._has_ladder = self.config.stage == "decoder"
        self._goes_on = False
        self._start: list[Tensor] = []
        self._assigned: tuple[Tensor, Tensor] | None = None

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape."""
        return Vqgan(VqganShape(**self.recipe.network))

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return the state of exported networks."""
        state = network_state(tensors)
        state["ladder.vectors"] = tensors["codebook.ladder"].float()
        runs = list(card.training.get("runs", []))
        tables = {k: tensors[f"codebook.{k}"] for k in ("counts", "weights")}
        known = bool(tables["counts"].numel())
        return Start(state, VqganShape(**card.shape()), runs, tables if known else None)

    def build(self, pictures: list[Tensor]) -> nn.Module:
        """Return fresh networks; the codebook starts later, from the encoder's own vectors."""
        model = Vqgan(VqganShape(**self.recipe.network))
        found = principal_components(pictures, DOWNSAMPLING, model.shape.embed - 1)
        model.start_from_components(found[0], found[1] / 127.5)
        return model

    def grow(
        self, state: dict[str, Tensor], old: Any, fresh: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return ``state``; networks of another shape cannot start from it.

        Raises:
            UsageProblem: The shapes differ.
        """
        if old != VqganShape(**self.recipe.network):
            raise UsageProblem("the weights' network has another shape than the recipe's")
        self._goes_on = True
        return state

    def prepare(self, model: nn.Module, device: torch.device) -> None:
        """Load LPIPS where it has a weight; stage ``decoder`` freezes what old files need.

        A run that starts from weights goes on with their codebook.
        """
        assert isinstance(model, Vqgan)
        if self.config.perceptual:
            arrays = read_lpips(self.config.backbone)
            self.lpips = LPIPS(arrays, self.config.backbone).to(device)
            self.metric = self.lpips
            if self.config.backbone != "alex":
                self.metric = LPIPS(read_lpips("alex"), "alex").to(device)
        if self.config.stage == "decoder":
            model.encoder.requires_grad_(False)
        elif self._goes_on:
            self.codebook = MovingCodebook(model.ladder.rung(self.config.bits).clone())

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, dict[str, float]]:
        """Return weighted distances of pixels and features, and the commitment of the encoder.

        Args:
            model: :class:`lic.networks.vqgan.Vqgan`.
            x: uint8 ``(N, 3, H, W)``, sides multiples of 16.
            rate: ``(N,)`` in [0, 1]: the rung in stage ``decoder``.
            progress: Where the run stands.
        """
        assert isinstance(model, Vqgan)
        pixels = (x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        if self.config.stage == "decoder":
            return self._decoder_loss(model, pixels, rate, progress)
        z = model.encoder(pixels)
        q, commitment, spread = self._quantise(model, z, progress)
        rung = torch.full((len(x),), float(self.config.bits), device=x.device)
        x_hat = model.decoder(q, torch.ones_like(q[:, :1]), rung)
        loss, figures = self._distance(pixels, x_hat)
        return loss + self.config.commitment * commitment, figures | {
            "commitment": float(commitment.detach()),
            "perplexity": spread,
        }

    def _quantise(
        self, model: Vqgan, z: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor, float]:
        """Return codewords with the gradient of the identity, the commitment, the perplexity."""
        flat = z.detach().permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        if self.codebook is None and progress.step < self.config.continuous:
            self._start = [*self._start, flat][-_START_VECTORS // len(flat) :]
            return F.normalize(z + 0.1 * torch.randn_like(z), dim=1), z.new_zeros(()), 0.0
        if self.codebook is None:
            self._begin(model, torch.cat([*self._start, flat]))
        assert self.codebook is not None
        indices = model.ladder.nearest(z.detach(), self.config.bits)
        c = model.ladder.look_up(indices, self.config.bits)
        self._assigned = flat, indices.reshape(-1)
        commitment = (z - c).square().sum(1).mean()
        return z + (c - z).detach(), commitment, perplexity(self.codebook.counts)

    def _begin(self, model: Vqgan, vectors: Tensor) -> None:
        generator = torch.Generator().manual_seed(self.recipe.seed)
        codewords = spherical_kmeans(vectors, 2**self.config.bits, generator)
        model.ladder.rung(self.config.bits).copy_(codewords)
        self.codebook = MovingCodebook(codewords)
        self._start = []

    def _distance(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, dict[str, float]]:
        pixel = _PIXEL_LOSSES[self.recipe.loss](x_hat, x)
        mse = float(F.mse_loss(x_hat.detach(), x)) / 4
        figures = {"psnr": -10 * math.log10(max(mse, 1e-9))}
        if self.lpips is None:
            return self.config.pixel * pixel, figures
        # The first layer of AlexNet has a stride of 4: a fixed grid would leave a pattern.
        top, left = (int(v) for v in torch.randint(0, 4, (2,)))
        perceptual = self.lpips(x[:, :, top:, left:], x_hat[:, :, top:, left:]).mean()
        loss = self.config.pixel * pixel + self.config.perceptual * perceptual
        return loss, {"lpips": float(perceptual.detach())} | figures

    def _decoder_loss(
        self, model: Vqgan, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, dict[str, float]]:
        shape = model.shape
        with torch.no_grad():
            z = model.encoder(x)
            rungs = shape.bottom + (rate * (shape.top - shape.bottom + 1)).floor().clamp(
                max=shape.top - shape.bottom
            )
            codewords = torch.empty_like(z)
            for bits in range(shape.bottom, shape.top + 1):
                of_rung = rungs == bits
                if bool(of_rung.any()):
                    indices = model.ladder.nearest(z[of_rung], bits)
                    codewords[of_rung] = model.ladder.look_up(indices, bits)
            codewords, trust = self._lose(codewords)
        x_hat = model.decoder(codewords, trust, rungs)
        loss, figures = self._distance(x, x_hat)
        if self.config.adversarial and progress.part > 0.9 * self.config.adversarial_from:
            self.adversary = self.adversary or Adversary(x.device)
            figures["adversary"] = self.adversary.learn(x, x_hat)
            if progress.part > self.config.adversarial_from:
                loss = self.adversary.join(loss, x_hat, self.config.adversarial)
        return loss, figures

    def _lose(self, codewords: Tensor) -> tuple[Tensor, Tensor]:
        """Take away some indices of some crops, as a channel does; returns the trust in the rest.

        Half of the lost ones are unknown, the others guessed wrong: they get a neighbour's codeword
        and some trust.
        """
        n, _, h, w = codewords.shape
        trust = torch.ones(n, 1, h, w, device=codewords.device)
        hit = torch.rand(n, device=codewords.device) < self.config.lost
        share = 0.5 * torch.rand(n, 1, 1, 1, device=codewords.device) * hit[:, None, None, None]
        lost = torch.rand_like(trust) < share
        guessed = lost & (torch.rand_like(trust) < 0.5)
        shift = [(-1, 0), (1, 0), (0, -1), (0, 1)][int(torch.randint(0, 4, ()))]
        codewords = torch.where(guessed, codewords.roll(shift, (2, 3)), codewords)
        doubt = torch.where(guessed, torch.rand_like(trust), torch.zeros_like(trust))
        return codewords, torch.where(lost, doubt, trust)

    def after_step(self, model: nn.Module) -> None:
        """Move the codebook to the means of what was assigned to it."""
        if self.codebook is not None and self._assigned is not None:
            assert isinstance(model, Vqgan)
            codewords = self.codebook.update(*self._assigned)
            model.ladder.rung(self.config.bits).copy_(codewords)
            self._assigned = None

    def state(self) -> dict[str, Any]:
        """Return the averages of the codebook and the adversary."""
        parts = {"codebook": self.codebook, "adversary": self.adversary}
        return {name: part.state() for name, part in parts.items() if part is not None}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        if "codebook" in state:
            self.codebook = MovingCodebook(state["codebook"]["sums"])
            self.codebook.restore(state["codebook"])
        if "adversary" in state:
            self.adversary = Adversary(state["adversary"]["net"]["main.0.weight"].device)
            self.adversary.restore(state["adversary"])

    @torch.no_grad()
    def validate(
        self, model: nn.Module, tables: Any, pictures: list[Tensor], device: torch.device
    ) -> Validation:
        """Measure LPIPS (AlexNet) and PSNR at some rungs, of uncoded indices.

        Without LPIPS in the recipe the number is the negative PSNR.
        """
        assert isinstance(model, Vqgan)
        rungs = [self.config.bits]
        if self._has_ladder:
            rungs = [b for b in _VALID_RUNGS if model.shape.bottom <= b <= model.shape.top]
        points = []
        for bits in rungs:
            figures, used = [], torch.zeros(2**bits)
            for picture in pictures:
                x = middle(picture).to(device)[None].float() / 127.5 - 1
                with torch.autocast(device.type, torch.bfloat16):
                    z = model.encoder(x.contiguous(memory_format=torch.channels_last))
                    indices = model.ladder.nearest(z, bits)
                    codewords = model.ladder.look_up(indices, bits)
                    trust = torch.ones_like(codewords[:, :1])
                    x_hat = model.decoder(codewords, trust, torch.tensor([bits], device=device))
                x_hat = ((x_hat + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
                mse = float((x_hat - x).square().mean()) / 4
                distance = math.nan if self.metric is None else float(self.metric(x, x_hat))
                figures.append((distance, -10 * math.log10(max(mse, 1e-9))))
                used += torch.bincount(indices.reshape(-1).cpu(), minlength=2**bits)
            lpips, psnr = np.mean(figures, axis=0).tolist()
            points.append([bits, lpips, psnr, perplexity(used)])
        row: dict[str, Any] = {}
        measured = {p[0]: p for p in points}
        for bits in _VALID_RUNGS:
            _, lpips, psnr, spread = measured.get(bits, [bits, math.nan, math.nan, math.nan])
            row |= {
                f"lpips@{bits}": round(lpips, 5),
                f"psnr@{bits}": round(psnr, 3),
                f"perplexity@{bits}": round(spread, 1),
            }
        last = points[-1]
        text = (
            f"LPIPS {last[1]:.4f}, {last[2]:.2f} dB, "
            f"{last[3]:.0f} of {2 ** int(last[0])} codewords in use"
        )
        return Validation(-last[2] if self.metric is None else last[1], text, row, points)

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Build the ladder and learn where the index coder starts; ``decoder`` keeps both."""
        assert isinstance(model, Vqgan)
        done = "decoder trained"
        if self.config.stage == "decoder" and tables is not None:
            return tables, done
        if self.config.stage == "codebook":
            fit_ladder(model, pictures, model.ladder.rung(self.config.bits).clone())
            self._has_ladder = True
            done = "ladder built"
        if not has_coder():
            return None, done + ", index coder starts empty, since it is not installed here"
        start = fit_start(model, pictures)
        arrays = {"counts": start.counts, "weights": start.weights}
        return {k: torch.from_numpy(v) for k, v in arrays.items()}, done

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship: halves, the ladder, the start of the index coder."""
        assert isinstance(model, Vqgan)
        start = tables and TreeStart(tables["counts"].numpy(), tables["weights"].numpy())
        return export_vqgan(model, name, training, start or None)
