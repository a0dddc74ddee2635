"""Learn codewords of unit length: a k-means start, moving averages, dead codes reborn, a ladder."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MovingCodebook", "build_ladder", "perplexity", "spherical_kmeans", "split_codewords"]

_NEIGHBOURS = 24


def perplexity(counts: Tensor) -> float:
    """Return the number of equally used codewords that would have the entropy of these counts."""
    part = counts.double() / counts.sum().clamp(min=1)
    return float(torch.special.entr(part).sum().exp())


def spherical_kmeans(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``(count, C)`` unit vectors near ``(n, C)`` unit vectors, by k-means++ and Lloyd.

    Small and on any device, for the start of training; ladders are made with scikit-learn.
    """
    chosen = vectors[torch.randint(len(vectors), (1,), generator=generator)]
    distance = (1 - vectors @ chosen[0]).clamp(min=0)
    for _ in range(count - 1):
        pick = torch.multinomial(distance.cpu() + 1e-9, 1, generator=generator)
        chosen = torch.cat([chosen, vectors[pick]])
        distance = torch.minimum(distance, (1 - vectors @ chosen[-1]).clamp(min=0))
    for _ in range(10):
        owner = (vectors @ chosen.T).argmax(1)
        sums = torch.zeros_like(chosen).index_add_(0, owner, vectors)
        lost = sums.square().sum(1) == 0
        chosen = torch.where(lost[:, None], chosen, F.normalize(sums, dim=1))
    return chosen


class MovingCodebook:
    """Codewords as moving averages of what is assigned to them (van den Oord et al. 2017, app. A).

    A codeword that is used less than a small part of the mean becomes a vector of the batch.

    Args:
        codewords: ``(K, C)`` unit vectors to start from.
        decay: Of the averages, per step.
        rebirth: Part of the mean use below which a codeword is replaced.
    """

    def __init__(self, codewords: Tensor, decay: float = 0.99, rebirth: float = 0.03):
        self.decay, self.rebirth = decay, rebirth
        self.counts = torch.ones(len(codewords), device=codewords.device)
        self.sums = codewords.clone()

    @torch.no_grad()
    def update(self, vectors: Tensor, indices: Tensor) -> Tensor:
        """Take in ``(n, C)`` vectors and their indices; returns the new codewords."""
        count = len(self.counts)
        ones = torch.zeros(count, device=vectors.device).index_add_(
            0, indices, torch.ones_like(indices, dtype=torch.float32)
        )
        sums = torch.zeros_like(self.sums).index_add_(0, indices, vectors.float())
        # Counts are held relative to the mean use, so that the size of a batch does not matter.
        share = count / max(1, len(indices))
        self.counts.lerp_(ones * share, 1 - self.decay)
        self.sums.lerp_(sums * share, 1 - self.decay)
        dead = self.counts < self.rebirth
        if bool(dead.any()):
            picks = torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)
            self.sums[dead] = vectors[picks].float() * 0.5
            self.counts[dead] = 0.5
        return F.normalize(self.sums, dim=1)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps."""
        return {"counts": self.counts, "sums": self.sums}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Undo :meth:`state`."""
        self.counts.copy_(state["counts"])
        self.sums.copy_(state["sums"])


def split_codewords(parents: Tensor, vectors: Tensor, rounds: int = 8) -> Tensor:
    """Return two children for each codeword, parent i's at 2 i and 2 i + 1.

    Children start on both sides of their parent along the main direction of its vectors and move
    to the means of those that are nearer to them than to their sibling.

    Args:
        parents: ``(K, C)`` unit vectors.
        vectors: ``(n, C)`` unit vectors.
        rounds: Of moving.
    """
    count, channels = parents.shape
    owner = (vectors @ parents.T).argmax(1)
    around = vectors - parents[owner]
    outer = around[:, :, None] * around[:, None]
    spread = torch.zeros(count, channels, channels, device=vectors.device)
    spread.index_add_(0, owner, outer)
    uses = torch.bincount(owner, minlength=count).clamp(min=1)
    values, directions = torch.linalg.eigh(spread / uses[:, None, None])
    step = values[:, -1:].clamp(min=1e-8).sqrt() * directions[:, :, -1]
    children = F.normalize(torch.stack([parents - step, parents + step], dim=1), dim=2)
    for _ in range(rounds):
        side = (vectors[:, None] * children[owner]).sum(2).argmax(1)
        at = 2 * owner + side
        sums = torch.zeros(2 * count, channels, device=vectors.device).index_add_(0, at, vectors)
        used = sums.square().sum(1, keepdim=True) > 0
        flat = torch.where(used, F.normalize(sums, dim=1), children.view(-1, channels))
        children = flat.view(count, 2, channels)
    return children.view(-1, channels)


def build_ladder(
    codewords: np.ndarray, weights: np.ndarray, bottom: int, *, unit: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Pair codewords upwards into nested codebooks.

    At each rung codewords are joined in pairs by a matching of least total Ward cost
    w_a w_b / (w_a + w_b) |a - b|^2 among near neighbours; a parent is the weighted mean of its two
    children.

    Args:
        codewords: ``(2^top, C)``.
        weights: ``(2^top,)`` how often each is used.
        bottom: Bits of the coarsest rung.
        unit: Bring parents to unit length.

    Returns:
        The heap of :class:`lic.networks.vqgan.Ladder`, ``(2^(top + 1), C)`` float32, rows below
        2^bottom zero; and ``(2^top,)`` int64, the old number of each new index at the top.
    """
    top = len(codewords).bit_length() - 1
    vectors = codewords.astype(np.float64)
    use = np.maximum(weights.astype(np.float64), 1e-6)
    levels = [vectors]
    parents: list[list[tuple[int, int]]] = []
    for _ in range(top - bottom):
        pairs = _match(vectors, use)
        parents.append(pairs)
        a, b = (np.array(side) for side in zip(*pairs, strict=True))
        mean = (use[a, None] * vectors[a] + use[b, None] * vectors[b]) / (use[a] + use[b])[:, None]
        length = np.linalg.norm(mean, axis=1, keepdims=True) if unit else 1.0
        vectors = mean / np.maximum(length, 1e-9)
        use = use[a] + use[b]
        levels.append(vectors)
    heap = np.zeros((2 * len(codewords), codewords.shape[1]), np.float32)
    order = np.arange(len(vectors))
    for depth in range(top - bottom, -1, -1):
        heap[len(order) : 2 * len(order)] = levels[depth][order]
        if depth:
            order = np.array([child for i in order for child in parents[depth - 1][i]])
    return heap, order


def _match(vectors: np.ndarray, use: np.ndarray) -> list[tuple[int, int]]:
    """Return disjoint pairs of all vectors."""
    import networkx

    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(2)
    cost = distance * (use[:, None] * use[None]) / (use[:, None] + use[None])
    np.fill_diagonal(cost, np.inf)
    near = np.argsort(cost, axis=1)[:, : min(_NEIGHBOURS, len(vectors) - 1)]
    graph = networkx.Graph()
    scale = 1e6 / max(float(np.median(cost[np.arange(len(cost)), near[:, 0]])), 1e-12)
    for i, row in enumerate(near):
        graph.add_weighted_edges_from((i, int(j), -round(cost[i, j] * scale)) for j in row)
    pairs = [tuple(sorted(p)) for p in networkx.max_weight_matching(graph, maxcardinality=True)]
    # Near neighbours alone may leave some without a partner.
    left = sorted(set(range(len(vectors))) - {i for p in pairs for i in p})
    while left:
        i = left.pop(0)
        j = min(left, key=lambda k: cost[i, k])
        left.remove(j)
        pairs.append((i, j))
    return sorted((int(a), int(b)) for a, b in pairs)
