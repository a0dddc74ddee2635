"""What the training loop needs to know about the network that helps the index coder."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lic.codecs.prior import GROUP_ENDS, NetworkPrior, frozen_prior
from lic.coding.fixed import exact_modules
from lic.coding.mixing import BUCKETS, CONTEXTS, DENSITIES, MOST_BITS
from lic.coding.order import r2_order
from lic.coding.scatter import learn_scattered, scattered_bits
from lic.networks.index_prior import IndexPrior, IndexPriorShape
from lic.training.config import Recipe
from lic.training.fitting import has_coder
from lic.training.grids import GridTask
from lic.training.ladder import vectors_of
from lic.training.precision import mixed_precision
from lic.training.task import Progress, Start, Validation
from lic.weights.store import Card, fingerprint

__all__ = ["PriorTask"]

_LEARNED_GRIDS = 300
_ONE = 1 << 16


class PriorTask(GridTask):
    """Family ``prior-transformer``: predict the next group of indices from those before.

    Trained by cross-entropy, in floats; exported in fixed point. The mixer's weights are learned
    with the exported network.
    """

    def __init__(self, recipe: Recipe):
        super().__init__(recipe)
        named: dict[str, Any] = self.rungs | recipe.network
        self.shape = IndexPriorShape(**named)

    def empty(self) -> nn.Module:
        """Return networks of the recipe's shape."""
        return IndexPrior(self.shape)

    def read(self, card: Card, tensors: dict[str, Tensor]) -> Start:
        """Return the state of exported networks."""
        model = frozen_prior(IndexPriorShape(**card.shape()), tensors)
        state = {k: v.float() for k, v in model.state_dict().items()}
        return Start(state, model.shape, list(card.training.get("runs", [])))

    def loss(
        self, model: nn.Module, x: Tensor, rate: Tensor, progress: Progress
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the cross-entropy of a random group, nats an index.

        Args:
            model: :class:`lic.networks.index_prior.IndexPrior`.
            x: uint8 ``(N, 3, H, W)``, sides multiples of 16.
            rate: Not used; a batch has one rung.
            progress: Where the run stands.
        """
        assert isinstance(model, IndexPrior)
        bits = self.any_rung()
        codebook = self.codec.ladder.rung(bits)
        with torch.no_grad():
            z = self.codec.encoder(x.float() / 127.5 - 1)
            indices = self.codec.ladder.nearest(z, bits)
            codewords = self.codec.ladder.look_up(indices, bits)
        known, asked = self._group((indices.shape[1], indices.shape[2]), x.device)
        rungs = torch.full((len(x),), float(bits), device=x.device)
        planes = known.to(codewords).expand(len(x), 1, *known.shape)
        found = model(codewords, planes, rungs).permute(0, 2, 3, 1)[:, asked].flatten(0, 1)
        with torch.autocast(x.device.type, enabled=False):
            logits = model.logits(found.float(), codebook)
            entropy = F.cross_entropy(logits, indices[:, asked].flatten())
        return entropy, {"bits": float(entropy.detach()) / math.log(2), "of": float(bits)}

    def _group(self, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what is known before a random group and what the group holds, bool ``(h, w)``.

        Groups are drawn as often as they hold indices.
        """
        order = torch.from_numpy(r2_order(*shape).copy()).to(device)
        end = int(np.searchsorted(GROUP_ENDS, self.random.integers(_ONE), side="right"))
        begin = 0 if end == 0 else GROUP_ENDS[end - 1] * len(order) >> 16
        until = max(begin + 1, GROUP_ENDS[end] * len(order) >> 16)
        known, asked = (torch.zeros(len(order), dtype=torch.bool, device=device) for _ in range(2))
        known[order[:begin]], asked[order[begin:until]] = True, True
        return known.view(shape), asked.view(shape)

    @torch.no_grad()
    def validate(
        self, model: nn.Module, tables: Any, pictures: list[Tensor], device: torch.device
    ) -> Validation:
        """Measure bits an index at the rung of the recipe, of the network alone, in floats."""
        assert isinstance(model, IndexPrior)
        bits = self.config.bits
        codebook = self.codec.ladder.rung(bits)
        rung = torch.tensor([float(bits)], device=device)
        total, count = 0.0, 0
        for picture in pictures:
            indices = self.codec.ladder.nearest(vectors_of(self.codec, picture), bits)
            codewords = self.codec.ladder.look_up(indices, bits)
            shape = indices.shape[1], indices.shape[2]
            order = torch.from_numpy(r2_order(*shape).copy()).to(device)
            begin = 0
            for share in GROUP_ENDS:
                until = share * len(order) >> 16
                known = torch.zeros(1, 1, *shape, device=device)
                known.view(-1)[order[:begin]] = 1
                with mixed_precision(device):
                    found = model(codewords, known, rung)[0].flatten(1).T[order[begin:until]]
                logits = model.logits(found.float(), codebook)
                wanted = indices.flatten()[order[begin:until]]
                total += float(F.cross_entropy(logits, wanted, reduction="sum"))
                begin = until
            count += indices.numel()
        mean = total / count / math.log(2)
        text = f"{mean:.4f} bits an index of {bits}, network alone"
        return Validation(mean, text, {"bits": round(mean, 5)}, [[mean]])

    def finish(
        self, model: nn.Module, pictures: list[Tensor], tables: dict[str, Tensor] | None
    ) -> tuple[dict[str, Tensor] | None, str]:
        """Learn the mixer's weights with the network in fixed point."""
        assert isinstance(model, IndexPrior)
        if not has_coder():
            return None, "prior trained, not mixed, since the index coder is not installed here"
        prior = NetworkPrior(_stream(model), model.shape, self.codec.ladder.vectors.cpu())
        chosen = pictures[:: max(1, len(pictures) // _LEARNED_GRIDS)]
        grids = []
        for picture in chosen:
            bits = self.any_rung()
            z = vectors_of(self.codec, picture)
            grid = self.codec.ladder.nearest(z, bits)[0].cpu().numpy()
            places = r2_order(*grid.shape)
            grids.append((grid.ravel()[places], places, (grid.shape[0], grid.shape[1]), bits))
        weights = learn_scattered(grids, self.parent.start, prior.hints)
        hints = replace(prior.hints, weights=weights)
        cost = sum(scattered_bits(*g, self.parent.start, hints) for g in grids[-20:])
        spent = cost / sum(len(g[0]) for g in grids[-20:])
        return {
            "mixing": torch.from_numpy(weights)
        }, f"mixed, {spent:.3f} bits an index in training"

    def export(
        self,
        model: nn.Module,
        name: str,
        training: dict[str, Any],
        tables: dict[str, Tensor] | None,
    ) -> tuple[Card, dict[str, Tensor]]:
        """Return card and tensors to ship; the card carries the fingerprint of the codec."""
        assert isinstance(model, IndexPrior)
        stream = _stream(model)
        if tables is not None:
            stream["prior.mixing"] = tables["mixing"]
        prior = NetworkPrior(stream, model.shape, self.codec.ladder.vectors.cpu())
        card = Card(
            name=name,
            family=self.recipe.family,
            fingerprint=self.card.fingerprint,
            sha256="",
            loop_checksum=prior.checksum(),
            network=asdict(model.shape),
            training=training | {"stream": fingerprint(stream)},
        )
        return card, stream


def _stream(model: IndexPrior) -> dict[str, Tensor]:
    """Return the network in integers, and mixing weights that trust it alone."""
    stream: dict[str, Tensor] = {}
    for name, layer in exact_modules(model).items():
        bits, weight, bias = layer.to_integers()
        stream[f"prior.{name}.bits"] = torch.tensor(bits)
        stream[f"prior.{name}.weight"], stream[f"prior.{name}.bias"] = weight, bias
    mixing = torch.zeros(DENSITIES * MOST_BITS, CONTEXTS * BUCKETS + 1, dtype=torch.int32)
    mixing[:, -1] = _ONE
    stream["prior.mixing"] = mixing
    return stream
