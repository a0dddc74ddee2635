"""What the training loop needs to know about the ``vqgan`` family."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.codecs.conceal import restorer_of, with_guesses
from lic.coding.mixing import TreeStart
from lic.errors import UsageProblem
from lic.networks.restorer import Restorer
from lic.networks.vqgan import DOWNSAMPLING, Vqgan, VqganShape
from lic.training.codebook import MovingCodebook, perplexity, spherical_kmeans
from lic.training.config import Recipe
from lic.training.data import principal_components
from lic.training.export import export_vqgan
from lic.training.fitting import has_coder
from lic.training.ladder import fit_ladder, fit_start
from lic.training.picture_loss import PictureLoss
from lic.training.rungs import RungFigures, measure_rungs
from lic.training.task import Progress, Start, Validation
from lic.weights.store import Card, find_weights, network_state

__all__ = ["VqganTask"]

_STAGES = ("codebook", "decoder", "rung")
_START_VECTORS = 50_000
_VALID_RUNGS = (3, 5, 7, 9, 10, 11, 12)


class VqganTask:
    """Builds the networks, turns a batch into a loss and measures what comes back."""

    capturable = False

    def __init__(self, recipe: Recipe):
        if recipe.vqgan.stage not in _STAGES:
            known = ", ".join(_STAGES)
            raise UsageProblem(f"stage '{recipe.vqgan.stage}' is unknown; known: {known}")
        self.recipe, self.config = recipe, recipe.vqgan
        self.picture_loss = PictureLoss(recipe)
        self.codebook: MovingCodebook | None = None
        self.restorer: Restorer | None = None
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
        tables = {
            k.removeprefix("codebook."): v
            for k, v in tensors.items()
            if k.startswith("codebook.") and k != "codebook.ladder"
        }
        known = bool(tables["counts"].numel())
        return Start(state, VqganShape(**card.shape()), runs, tables if known else None)

    def build(self, pictures: list[Tensor], initial: Start | None = None) -> nn.Module:
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
        self.picture_loss.prepare(device)
        if self.config.stage == "decoder":
            model.encoder.requires_grad_(False)
            if self.config.restorer:
                card = find_weights("restorer-transformer", path=self.config.restorer)
                self.restorer = restorer_of(card).to(device)
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
        loss, figures = self.picture_loss.distance(pixels, x_hat)
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
            codewords, trust = self._lose(model, codewords, rungs)
        x_hat = model.decoder(codewords, trust, rungs)
        return self.picture_loss.with_adversary(x, x_hat, progress.part)

    def _lose(self, model: Vqgan, codewords: Tensor, rungs: Tensor) -> tuple[Tensor, Tensor]:
        """Take away some indices of some crops, as a channel does; returns the trust in the rest.

        Half of the lost ones are unknown, the others guessed wrong: they get a neighbour's codeword
        and some trust. With a restorer, its guesses stand in for all of them in half of the crops.
        """
        n, _, h, w = codewords.shape
        trust = torch.ones(n, 1, h, w, device=codewords.device)
        hit = torch.rand(n, device=codewords.device) < self.config.lost
        share = 0.5 * torch.rand(n, 1, 1, 1, device=codewords.device) * hit[:, None, None, None]
        lost = torch.rand_like(trust) < share
        guessed = lost & (torch.rand_like(trust) < 0.5)
        shift = [(-1, 0), (1, 0), (0, -1), (0, 1)][int(torch.randint(0, 4, ()))]
        known = torch.where(guessed, codewords.roll(shift, (2, 3)), codewords)
        doubt = torch.where(guessed, torch.rand_like(trust), torch.zeros_like(trust))
        trust = torch.where(lost, doubt, trust)
        if self.restorer is not None:
            mended = lost[:, 0] & (torch.rand(n, device=codewords.device) < 0.5)[:, None, None]
            for bits in rungs[mended.any((1, 2))].unique().tolist():  # type: ignore[no-untyped-call]
                here = mended & (rungs == bits)[:, None, None]
                codebook = model.ladder.rung(int(bits))
                means = self.restorer.expected(codewords, here, codebook, int(bits)).float()
                known, trust = with_guesses(known, trust, here, means, codebook)
        return known, trust

    def fuse(self, compiled: Callable[[Any], Any]) -> None:
        """There is little to fuse."""

    def after_step(self, model: nn.Module) -> None:
        """Move the codebook to the means of what was assigned to it."""
        if self.codebook is not None and self._assigned is not None:
            assert isinstance(model, Vqgan)
            codewords = self.codebook.update(*self._assigned)
            model.ladder.rung(self.config.bits).copy_(codewords)
            self._assigned = None

    def state(self) -> dict[str, Any]:
        """Return the averages of the codebook and the adversary."""
        codebook = {} if self.codebook is None else {"codebook": self.codebook.state()}
        return codebook | self.picture_loss.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        if "codebook" in state:
            self.codebook = MovingCodebook(state["codebook"]["sums"])
            self.codebook.restore(state["codebook"])
        self.picture_loss.restore(state)

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
        points = measure_rungs(model, pictures, rungs, self.picture_loss.metric)
        measured = {p.bits: p for p in points}
        row: dict[str, Any] = {}
        for bits in _VALID_RUNGS:
            at = measured.get(bits, RungFigures(bits, math.nan, math.nan, math.nan))
            row |= {
                f"lpips@{bits}": round(at.lpips, 5),
                f"psnr@{bits}": round(at.psnr, 3),
                f"perplexity@{bits}": round(at.perplexity, 1),
            }
        last = points[-1]
        number = -last.psnr if self.picture_loss.metric is None else last.lpips
        curve = [[p.bits, p.lpips, p.psnr, p.perplexity] for p in points]
        return Validation(number, str(last), row, curve)

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Build the ladder and learn where the index coder starts; ``decoder`` keeps both."""
        assert isinstance(model, Vqgan)
        done = "decoder trained"
        if self.config.stage == "decoder" and tables is not None and "scattered" in tables:
            return tables, done
        if self.config.stage == "codebook":
            fit_ladder(model, pictures, model.ladder.rung(self.config.bits).clone())
            self._has_ladder = True
            done = "ladder built"
        if not has_coder():
            return None, done + ", index coder starts empty, since it is not installed here"
        start = fit_start(model, pictures)
        return {k: torch.from_numpy(v) for k, v in start.arrays().items()}, done

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship: halves, the ladder, the start of the index coder."""
        assert isinstance(model, Vqgan)
        start = tables and TreeStart.of_arrays({k: v.numpy() for k, v in tables.items()})
        return export_vqgan(model, name, training, start or None)
