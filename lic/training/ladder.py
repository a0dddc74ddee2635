"""Codebooks of all sizes from a trained one, and what the index coder knows of them at first."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lic.coding.tree import TreeStart, learn_start
from lic.networks.vqgan import DOWNSAMPLING, Vqgan
from lic.training.codebook import build_ladder, split_codewords

__all__ = ["fit_ladder", "fit_start", "middle", "vectors_of"]

_SIDE = 512
_PICTURES = 400
_TOGETHER = 32
"""Grids that the index coder learns from at once."""
_MOST_COUNTS = 64


@torch.no_grad()
def vectors_of(model: Vqgan, picture: Tensor) -> Tensor:
    """Return the encoder's vectors ``(1, embed, h, w)`` of the middle of a uint8 picture."""
    device = model.ladder.vectors.device
    x = middle(picture).to(device)[None].float() / 127.5 - 1
    with torch.autocast(device.type, torch.bfloat16):
        z: Tensor = model.encoder(x.contiguous(memory_format=torch.channels_last))
    return z


def middle(picture: Tensor) -> Tensor:
    """Return the middle of a picture, sides multiples of 16 and at most 512."""
    sides = [min(_SIDE, s // DOWNSAMPLING * DOWNSAMPLING) for s in picture.shape[1:]]
    top, left = ((s - n) // 2 for s, n in zip(picture.shape[1:], sides, strict=True))
    return picture[:, top : top + sides[0], left : left + sides[1]]


@torch.no_grad()
def fit_ladder(model: Vqgan, pictures: list[Tensor], codewords: Tensor) -> None:
    """Fill the model's ladder from one codebook: pairs below it, splits above it.

    Every rung but the given one is re-estimated as the means of the encoder's vectors that are
    nearest to its codewords.

    Args:
        model: Its ladder is replaced.
        pictures: Of the training set, uint8 ``(3, H, W)``.
        codewords: ``(2^r, embed)``, trained; r is a rung of the ladder.
    """
    shape = model.shape
    bits = len(codewords).bit_length() - 1
    chosen = pictures[:: max(1, len(pictures) // _PICTURES)]
    z = torch.cat([vectors_of(model, p).permute(0, 2, 3, 1).flatten(0, 2) for p in chosen])
    use = torch.bincount((z @ codewords.T).argmax(1), minlength=len(codewords))
    heap, _ = build_ladder(codewords.cpu().numpy(), use.cpu().numpy(), shape.bottom)
    model.ladder.vectors[: len(heap)] = torch.from_numpy(heap).to(codewords)
    for rung in range(shape.bottom, bits):
        _estimate(model.ladder.rung(rung), z)
    for rung in range(bits, shape.top):
        parents = model.ladder.rung(rung)
        model.ladder.rung(rung + 1).copy_(split_codewords(parents, z))
        _estimate(model.ladder.rung(rung + 1), z)


def _estimate(rung: Tensor, z: Tensor) -> None:
    owner = (z @ rung.T).argmax(1)
    sums = torch.zeros_like(rung).index_add_(0, owner, z)
    used = sums.square().sum(1, keepdim=True) > 0
    rung.copy_(torch.where(used, F.normalize(sums, dim=1), rung))


@torch.no_grad()
def fit_start(model: Vqgan, pictures: list[Tensor]) -> TreeStart:
    """Learn what the index coder knows before the first bit, from all rungs of training pictures.

    Args:
        model: With its ladder.
        pictures: Of the training set, uint8 ``(3, H, W)``; the middle of each is used.
    """
    same: dict[tuple[int, int], list[Tensor]] = {}
    for picture in pictures[:: max(1, len(pictures) // _PICTURES)]:
        z = vectors_of(model, picture)
        same.setdefault((z.shape[2], z.shape[3]), []).append(z)
    grids = []
    for bits in range(model.shape.bottom, model.shape.top + 1):
        for parts in same.values():
            for at in range(0, len(parts), _TOGETHER):
                z = torch.cat(parts[at : at + _TOGETHER])
                grids.append((model.ladder.nearest(z, bits).cpu().numpy(), bits))
    # Rungs take turns, so that the last one does not leave the strongest trace.
    order = np.random.default_rng(0).permutation(len(grids))
    return learn_start([grids[i] for i in order], _MOST_COUNTS)
