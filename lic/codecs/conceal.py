"""What stands in for indices that did not arrive, and how far the decoder is to trust it.

Each concealer turns codewords with holes into codewords without, and says how sure it is of them:
the decoder of ``vqgan`` has an input for that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lic.codecs.plan import finite, ready
from lic.errors import UsageProblem, WeightsError
from lic.networks.restorer import KINDS, Restorer, RestorerShape
from lic.weights import Card, companions, load_tensors, network_state

__all__ = [
    "CONCEALERS",
    "Concealer",
    "available_concealers",
    "concealer",
    "default_concealer",
    "restorer_of",
    "with_guesses",
    "with_trust",
]

CONCEALERS = ("none", "nearest", "mean", *KINDS)
"""By name: an empty hole, the nearest codeword that arrived, the mean of those around, networks."""

_BEST_FIRST = ("conv", "transformer", "mean")

Concealer = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(codewords ``(1, E, h, w)``, known bool ``(h, w)``, codebook ``(K, E)``, bits) -> codewords and
trust ``(1, 1, h, w)``."""


def concealer(name: str, codec: Card) -> Concealer:
    """Return a concealer by name.

    Args:
        name: Of ``CONCEALERS``.
        codec: Weights of ``vqgan`` that the indices belong to; networks have to be made for them,
            and are looked for beside them first.

    Raises:
        UsageProblem: No such concealer.
        WeightsError: No network of that kind for these weights.
    """
    plain = {"none": _none, "nearest": _nearest, "mean": _mean}
    if name in plain:
        return plain[name]
    if name not in KINDS:
        raise UsageProblem(f"no concealer '{name}'; known: {', '.join(CONCEALERS)}")
    cards = companions(codec, f"restorer-{name}")
    if not cards:
        raise WeightsError(f"no weights 'restorer-{name}' for those of {codec.prefix().hex()}")
    return _Network(cards[0])


def default_concealer(codec: Card) -> str:
    """Return the name of what conceals best, as measured, of those that there are for weights."""
    there = available_concealers(codec)
    return next(name for name in _BEST_FIRST if name in there)


def available_concealers(codec: Card) -> tuple[str, ...]:
    """Return the names of those that there are for these weights."""
    there = {name for name in KINDS if companions(codec, f"restorer-{name}")}
    return tuple(name for name in CONCEALERS if name not in KINDS or name in there)


def with_trust(means: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Split means of codewords into vectors as long as codewords, and the trust in them.

    A mean of codewords that disagree is short; its length over theirs is the trust, 0..1. Decoders
    multiply the two, so they get the mean itself and are told how sure it is.

    Args:
        means: ``(n, E)``.
        codebook: ``(K, E)``.

    Returns:
        ``(n, E)`` and ``(n,)``.
    """
    length = codebook.norm(dim=1).mean()
    trust = (means.norm(dim=1) / length).clamp(1e-3, 1)
    return means / trust[:, None], trust


def with_guesses(
    codewords: Tensor, trust: Tensor, lost: Tensor, means: Tensor, codebook: Tensor
) -> tuple[Tensor, Tensor]:
    """Put means of codewords into holes, see :func:`with_trust`.

    Args:
        codewords: ``(N, E, h, w)``.
        trust: ``(N, 1, h, w)``.
        lost: bool ``(N, h, w)``, the n holes.
        means: ``(n, E)``.
        codebook: ``(K, E)``.

    Returns:
        Copies of codewords and trust without holes.
    """
    vectors, sure = with_trust(means, codebook)
    filled, trust = codewords.permute(0, 2, 3, 1).clone(), trust.clone()
    filled[lost], trust[lost[:, None]] = vectors.to(filled), sure.to(trust)
    return filled.permute(0, 3, 1, 2), trust


def _none(codewords: Tensor, known: Tensor, codebook: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    trust = known.to(codewords)[None, None]
    return codewords * trust, trust


def _nearest(
    codewords: Tensor, known: Tensor, codebook: Tensor, bits: int
) -> tuple[Tensor, Tensor]:
    """Grow what is known by a position at a time; of equally near ones, the first counts."""

    def one(around: Tensor, there: Tensor) -> Tensor:
        first = there.to(torch.uint8).argmax(0)
        at = first[None, None].expand(1, around.shape[1], *first.shape)
        return around.gather(0, at)[0]

    return _grow(codewords, known, one), torch.ones_like(codewords[:, :1])


def _mean(codewords: Tensor, known: Tensor, codebook: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Grow what is known by a position at a time, as the mean of direct neighbours."""

    def one(around: Tensor, there: Tensor) -> Tensor:
        share = there.to(around)
        return (around * share[:, None]).sum(0) / share.sum(0).clamp(min=1)

    filled, trust = _grow(codewords, known, one), known.to(codewords)[None, None]
    lost = ~known[None]
    return with_guesses(filled, trust, lost, filled.permute(0, 2, 3, 1)[lost], codebook)


def _grow(codewords: Tensor, known: Tensor, one: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    filled, there = codewords[0] * known, known.clone()
    while not bool(there.all()):
        padded, mask = F.pad(filled, (1, 1, 1, 1)), F.pad(there, (1, 1, 1, 1))
        h, w = known.shape
        shifts = ((1, 0), (1, 2), (0, 1), (2, 1))  # left, right, above, below
        around = torch.stack([padded[:, y : y + h, x : x + w] for y, x in shifts])
        near = torch.stack([mask[y : y + h, x : x + w] for y, x in shifts])
        fresh = near.any(0) & ~there
        filled = torch.where(fresh, one(around, near), filled)
        there = there | fresh
    return filled[None]


def restorer_of(card: Card) -> Restorer:
    """Return a trained restorer, frozen, in float32.

    Raises:
        WeightsError: Its weights are missing or changed.
    """
    model = Restorer(RestorerShape(**card.shape()))
    model.load_state_dict(network_state(load_tensors(card)))
    return model.eval().requires_grad_(False)


class _Network:
    """A trained restorer.

    It runs once; the guess is the expected codeword by its probabilities, which are trained for the
    picture that the decoder makes of it.
    """

    def __init__(self, card: Card):
        self.card = card
        self.model: Restorer = ready(restorer_of(card))

    def __call__(
        self, codewords: Tensor, known: Tensor, codebook: Tensor, bits: int
    ) -> tuple[Tensor, Tensor]:
        if not self.model.shape.bottom <= bits <= self.model.shape.top:
            raise WeightsError(
                f"restorer knows no rung of {2**bits} codewords", str(self.card.path)
            )
        trust = known.to(codewords)[None, None]
        lost = ~known[None]
        means = finite(self.model.expected(codewords, lost, codebook, bits))
        return with_guesses(codewords, trust, lost, means, codebook)
