"""Codebooks of all sizes from a trained one, and what the index coder knows of them at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lic.coding.mixing import DENSITIES, MOST_BITS, TreeStart
from lic.coding.order import r2_order
from lic.coding.scatter import learn_scattered
from lic.coding.tree import learn_start
from lic.errors import InputError, UsageProblem
from lic.networks.vqgan import DOWNSAMPLING, Vqgan, VqganShape
from lic.training.codebook import build_ladder, split_codewords
from lic.training.data import load_pictures, picture_files
from lic.training.export import export_vqgan
from lic.training.precision import mixed_precision
from lic.weights.store import (
    Card,
    check_target,
    find_weights,
    load_tensors,
    network_state,
    save_weights,
)

if TYPE_CHECKING:
    from lic.networks.taming import TamingVqgan

__all__ = [
    "fit_ladder",
    "fit_start",
    "kmeans_codewords",
    "make_ladder",
    "middle",
    "rung_of",
    "vectors_of",
]

_SIDE = 512
_PICTURES = 400
_PACKETS = 6000
_TOGETHER = 32
"""Grids that the index coder learns from at once."""
_MOST_COUNTS = 64


@torch.no_grad()
def vectors_of(model: Vqgan | TamingVqgan, picture: Tensor) -> Tensor:
    """Return the encoder's vectors ``(1, embed, h, w)`` of the middle of a uint8 picture."""
    device = model.ladder.vectors.device
    x = middle(picture).to(device)[None].float() / 127.5 - 1
    with mixed_precision(device):
        z: Tensor = model.encoder(x.contiguous(memory_format=torch.channels_last))
    return z


def middle(picture: Tensor) -> Tensor:
    """Return the middle of a picture, sides multiples of 16 and at most 512."""
    sides = [min(_SIDE, s // DOWNSAMPLING * DOWNSAMPLING) for s in picture.shape[1:]]
    top, left = ((s - n) // 2 for s, n in zip(picture.shape[1:], sides, strict=True))
    return picture[:, top : top + sides[0], left : left + sides[1]]


@torch.no_grad()
def uses_of(model: Vqgan | TamingVqgan, pictures: list[Tensor], codewords: Tensor) -> np.ndarray:
    """Return how often each codeword is the nearest to a vector of the encoder.

    Args:
        model: Its encoder is used.
        pictures: uint8 ``(3, H, W)``.
        codewords: ``(K, embed)``, of any K.

    Returns:
        int64 ``(K,)``.
    """
    use = np.zeros(len(codewords), np.int64)
    for picture in pictures:
        use += _uses(vectors_of(model, picture).permute(0, 2, 3, 1).flatten(0, 2), codewords)
    return use


def _uses(z: Tensor, codewords: Tensor) -> np.ndarray:
    nearest = (z @ codewords.T - codewords.square().sum(1) / 2).argmax(1)
    return torch.bincount(nearest, minlength=len(codewords)).cpu().numpy()


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
    use = _uses(z, codewords)
    heap, _ = build_ladder(codewords.cpu().numpy(), use, shape.bottom)
    model.ladder.vectors[: len(heap)] = torch.from_numpy(heap).to(codewords)
    for rung in range(shape.bottom, bits):
        _estimate(model.ladder.rung(rung), z)
    for rung in range(bits, shape.top):
        parents = model.ladder.rung(rung)
        model.ladder.rung(rung + 1).copy_(split_codewords(parents, z))
        _estimate(model.ladder.rung(rung + 1), z)


def kmeans_codewords(model: Vqgan, pictures: list[Tensor], bits: int) -> Tensor:
    """Return ``(2^bits, embed)`` unit codewords by scikit-learn's k-means over encoder vectors.

    Args:
        model: Its encoder is used; where its ladder has the rung, k-means starts there.
        pictures: Of the training set, uint8 ``(3, H, W)``.
        bits: Of an index.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise InputError("scikit-learn is not installed: pip install 'lic[ml]'") from error
    chosen = pictures[:: max(1, len(pictures) // _PICTURES)]
    z = torch.cat([vectors_of(model, p).permute(0, 2, 3, 1).flatten(0, 2) for p in chosen])
    known = model.shape.bottom <= bits <= model.shape.top
    begin = model.ladder.rung(bits).numpy() if known else "k-means++"
    found = KMeans(2**bits, init=begin, n_init=1, random_state=0, max_iter=50).fit(z.numpy())
    return F.normalize(torch.from_numpy(found.cluster_centers_).float(), dim=1)


def _estimate(rung: Tensor, z: Tensor) -> None:
    owner = (z @ rung.T).argmax(1)
    sums = torch.zeros_like(rung).index_add_(0, owner, z)
    used = sums.square().sum(1, keepdim=True) > 0
    rung.copy_(torch.where(used, F.normalize(sums, dim=1), rung))


@torch.no_grad()
def fit_start(model: Vqgan | TamingVqgan, pictures: list[Tensor]) -> TreeStart:
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
    random = np.random.default_rng(0)
    order = random.permutation(len(grids))
    start = learn_start([grids[i] for i in order], _MOST_COUNTS)
    weights = learn_scattered(_packets(grids, random), start)
    return replace(start, scattered=weights.reshape(DENSITIES, *start.weights.shape))


def _packets(
    grids: list[tuple[np.ndarray, int]], random: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, tuple[int, int], int]]:
    """Cut packets out of random grids, as many to a picture as senders make of it."""
    packets = []
    for _ in range(_PACKETS):
        stack, bits = grids[random.integers(len(grids))]
        grid = stack[random.integers(len(stack))]
        places = r2_order(*grid.shape)
        count = round(np.exp(random.uniform(np.log(4), np.log(48))))
        at = random.integers(count)
        chosen = places[at * grid.size // count : (at + 1) * grid.size // count]
        packets.append((grid.ravel()[chosen], chosen, grid.shape, bits))
    return packets


def make_ladder(
    weights: str,
    sizes: list[int],
    *,
    data: Sequence[str],
    output: str,
    finest: int | None = None,
    compare: bool = False,
    name: str = "vqgan",
    force: bool = False,
) -> tuple[Card, str]:
    """Write weights with new nested codebooks.

    Args:
        weights: Name or path of exported weights.
        sizes: Codewords of the rungs, powers of two that double.
        data: Folders of training pictures.
        output: Folder for both files.
        finest: Codewords up to which rungs are split behind the last size.
        compare: Also fit k-means to each size alone, and to the codewords as the paper does.
        name: File name without suffix.
        force: Replace existing files.

    Returns:
        The card, and a table of squared errors between vectors and codewords.

    Raises:
        UsageProblem: The sizes are not as above, or the files exist.
        InputError, WeightsError: Pictures or weights cannot be read.
    """
    bits = [rung_of(size) for size in sizes]
    top = bits[-1] if finest is None else rung_of(finest)
    if bits != list(range(bits[0], bits[0] + len(bits))) or top < bits[-1]:
        raise UsageProblem("sizes have to double from each to the next, up to the finest")
    target = check_target(output, name, force=force)
    card = find_weights("vqgan", path=weights) if Path(weights).exists() else find_weights("vqgan")
    old = VqganShape(**card.shape())
    tensors = load_tensors(card)
    model = Vqgan(replace(old, bottom=bits[0], top=top))
    state = network_state(tensors)
    model.load_state_dict(state, strict=False)
    model.eval().requires_grad_(False)
    kept = tensors["codebook.ladder"].float()
    shared = min(len(kept), len(model.ladder.vectors))
    model.ladder.vectors[:shared] = kept[:shared]
    pictures = load_pictures(picture_files(data))
    codewords = kmeans_codewords(model, pictures, bits[-1])
    fit_ladder(model, pictures, codewords)
    told = _errors(model, pictures, codewords, compare)
    training = card.training | {"ladder": {"sizes": sizes, "finest": 2**top, "method": "k-means"}}
    start = fit_start(model, pictures)
    return save_weights(target, *export_vqgan(model, name, training, start)), told


def rung_of(size: int) -> int:
    """Return the bits of an index of a codebook of ``size``.

    Raises:
        UsageProblem: It is no power of two, or too large for the index coder.
    """
    bits = size.bit_length() - 1
    if size != 2**bits or not 1 <= bits <= MOST_BITS:
        raise UsageProblem(f"codebook of {size}: a power of two from 2 to {2**MOST_BITS} is wanted")
    return bits


def _errors(model: Vqgan, pictures: list[Tensor], codewords: Tensor, compare: bool) -> str:
    """Return the mean squared distance to the nearest codeword of each rung, as a table."""
    chosen = pictures[1 :: max(2, len(pictures) // _PICTURES)] or pictures
    z = torch.cat([vectors_of(model, p).permute(0, 2, 3, 1).flatten(0, 2) for p in chosen])
    heads = ["nested", *(["alone", "of codewords"] if compare else [])]
    lines = ["codewords  " + "  ".join(f"{h:>12}" for h in heads)]
    for bits in range(model.shape.bottom, model.shape.top + 1):
        found = [model.ladder.rung(bits)]
        if compare:
            found.append(kmeans_codewords(model, pictures, bits))
            found.append(_clusters_of(codewords, bits))
        cells = (f"{2 - 2 * float((z @ c.T).amax(1).mean()):12.5f}" for c in found)
        lines.append(f"{2**bits:9}  " + "  ".join(cells))
    return "\n".join(lines)


def _clusters_of(codewords: Tensor, bits: int) -> Tensor:
    """Cluster the codewords themselves, unweighted, as the code of Mao et al. does."""
    from sklearn.cluster import KMeans

    if 2**bits >= len(codewords):
        return codewords
    found = KMeans(2**bits, n_init=1, random_state=0).fit(codewords.numpy())
    return F.normalize(torch.from_numpy(found.cluster_centers_).float(), dim=1)
