"""What the training loop needs to know about restorers of lost indices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.codecs.conceal import with_guesses
from lic.errors import UsageProblem
from lic.networks.restorer import KINDS, Restorer, RestorerShape
from lic.training.config import Recipe
from lic.training.export import export_companion
from lic.training.grids import GridTask
from lic.training.ladder import middle, vectors_of
from lic.training.masks import packet_mask, random_mask
from lic.training.precision import mixed_precision
from lic.training.task import Progress, Start, Validation
from lic.weights.store import Card, network_state

__all__ = ["RestorerTask"]

_NEAR = 8
_VALID_PACKETS = 12
_VALID_LOSS = 0.2


class RestorerTask(GridTask):
    """Families ``restorer-conv`` and ``restorer-transformer``: guess lost codewords.

    The encoder and the ladder of trained ``vqgan`` weights make the grids. Lost positions are
    learned by cross-entropy against the codewords near the true vector, and by the distance of the
    expected codeword, since that is what the decoder gets; and from the picture that it makes of
    it, if the recipe says so.
    """

    def __init__(self, recipe: Recipe):
        kind = recipe.family.removeprefix("restorer-")
        if kind not in KINDS:
            raise UsageProblem(f"restorer '{kind}' is unknown; known: {', '.join(KINDS)}")
        super().__init__(recipe)
        named: dict[str, Any] = {"kind": kind} | self.rungs | recipe.network
        self.shape = RestorerShape(**named)

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape."""
        return Restorer(self.shape)

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return the state of exported networks."""
        runs = list(card.training.get("runs", []))
        return Start(network_state(tensors), RestorerShape(**card.shape()), runs)

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, dict[str, float]]:
        """Return cross-entropy and distance at lost positions, and the distance of the picture.

        Args:
            model: :class:`lic.networks.restorer.Restorer`.
            x: uint8 ``(N, 3, H, W)``, sides multiples of 16.
            rate: Not used; a batch has one rung.
            progress: Where the run stands.
        """
        assert isinstance(model, Restorer)
        bits = self.any_rung()
        codebook = self.codec.ladder.rung(bits)
        with torch.no_grad():
            levels = x.float() / 127.5 - 1
            z = self.codec.encoder(levels)
            indices = self.codec.ladder.nearest(z, bits)
            vectors = self.codec.ladder.look_up(self._mistaken(indices, bits), bits)
        shape = indices.shape[1], indices.shape[2]
        lost = np.stack([random_mask(shape, self.random) for _ in range(len(x))])
        lost_here = torch.from_numpy(lost).to(x.device)
        trust = 1 - lost_here[:, None].to(vectors)
        rungs = torch.full((len(x),), float(bits), device=x.device)
        guessed = model(vectors, trust, rungs).permute(0, 2, 3, 1)[lost_here]
        truth = z.permute(0, 2, 3, 1)[lost_here].float()
        with torch.autocast(x.device.type, enabled=False):
            expected, loss, figures = self._distance(model, guessed, truth, codebook, bits)
        if self.config.picture:
            filled = with_guesses(vectors, trust, lost_here, expected, codebook)
            shown = self.codec.decoder(*filled, rungs)
            distance, seen = self.picture_loss.distance(levels, shown)
            loss, figures = loss + self.config.picture * distance, figures | seen
        return loss, figures

    def _mistaken(self, indices: Tensor, bits: int) -> Tensor:
        """Replace a few indices of a few grids by others, as undetected damage would."""
        chance = self.config.wrong * (torch.rand(len(indices), 1, 1) < 0.2)
        wrong = torch.rand(indices.shape) < chance
        others = torch.randint(0, 2**bits, indices.shape)
        return torch.where(wrong.to(indices.device), others.to(indices.device), indices)

    def _distance(
        self, model: Restorer, guessed: Tensor, truth: Tensor, codebook: Tensor, bits: int
    ) -> tuple[Tensor, Tensor, dict[str, float]]:
        logits = model.logits(guessed, codebook, bits)
        near = min(_NEAR, len(codebook))
        closeness, which = (truth @ codebook.T).topk(near, dim=1)
        targets = F.softmax(closeness / self.config.softness, dim=1)
        log_probabilities = F.log_softmax(logits, dim=1)
        entropy = -(targets * log_probabilities.gather(1, which)).sum(1).mean()
        expected = log_probabilities.exp() @ codebook
        squared = (expected - codebook[which[:, 0]]).square().sum(1).mean()
        hits = float((logits.argmax(1) == which[:, 0]).float().mean())
        figures = {"entropy": float(entropy.detach()), "squared": float(squared.detach())}
        return expected, entropy + self.config.squared * squared, figures | {"hits": hits}

    @torch.no_grad()
    def validate(
        self, model: nn.Module, tables: Any, pictures: list[Tensor], device: torch.device
    ) -> Validation:
        """Measure LPIPS and codeword distance at the trained rung, a fifth of the packets lost."""
        assert isinstance(model, Restorer)
        bits, metric = self.config.bits, self.picture_loss.metric
        codebook = self.codec.ladder.rung(bits)
        rung = torch.tensor([float(bits)], device=device)
        distances, rises = [], []
        for number, picture in enumerate(pictures):
            x = middle(picture).to(device)[None].float() / 127.5 - 1
            z = vectors_of(self.codec, picture)
            true = self.codec.ladder.look_up(self.codec.ladder.nearest(z, bits), bits)
            random = np.random.default_rng(number)
            shape = z.shape[2], z.shape[3]
            mask = packet_mask(shape, _VALID_PACKETS, _VALID_LOSS, None, random)
            lost = torch.from_numpy(mask).to(device)[None]
            trust = 1 - lost[:, None].to(true)
            with mixed_precision(device):
                guess = model.expected(true, lost, codebook, bits).float()
            restored, confidence = with_guesses(true, trust, lost, guess, codebook)
            if lost.any():
                wanted = true.permute(0, 2, 3, 1)[lost]
                distances.append(float((guess - wanted).square().sum(1).mean()))
            if metric is not None:
                whole = self._distance_of(x, true, torch.ones_like(trust), rung)
                mended = self._distance_of(x, restored, confidence, rung)
                rises.append(mended - whole)
        distance = float(np.mean(distances))
        rise = float(np.mean(rises)) if rises else float("nan")
        score = distance if metric is None else rise
        text = f"squared distance {distance:.4f}, LPIPS +{rise:.4f} at 20 % lost"
        row = {"squared": round(distance, 5), "lpips_rise": round(rise, 5)}
        return Validation(score, text, row, [[distance, rise]])

    def _distance_of(self, x: Tensor, codewords: Tensor, trust: Tensor, rung: Tensor) -> float:
        assert self.picture_loss.metric is not None
        shown = self.codec.decoder(codewords, trust, rung)
        return float(self.picture_loss.metric(x, shown.clamp(-1, 1)))

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Nothing is fitted at the end."""
        return None, "restorer trained"

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship; the card carries the fingerprint of the codec."""
        assert isinstance(model, Restorer)
        family = self.recipe.family
        return export_companion(model, model.shape, family, self.card, name, training)
