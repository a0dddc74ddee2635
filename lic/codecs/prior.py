"""A network beside the contexts of the index coder: ``--prior transformer``.

Positions are coded in groups along the R2 order. Before each the network sees the codewords so
far and predicts the others; what it says of a bit is one more input of the mixer. Exact, since
network and tables are integers in float64.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from lic.coding.fixed import FRACTION_BITS, exact_modules, to_grid
from lic.coding.leaves import LeafBits
from lic.coding.mixing import BUCKETS, CONTEXTS, DENSITIES, MOST_BITS
from lic.coding.scatter import Hints
from lic.errors import WeightsError
from lic.networks.index_prior import IndexPrior, IndexPriorShape
from lic.weights import Card, companions, load_tensors

__all__ = [
    "FAMILY",
    "GROUP_ENDS",
    "IDENTITY_BYTES",
    "NetworkPrior",
    "find_prior",
    "frozen_prior",
    "verify_prior",
]

FAMILY = "prior-transformer"

IDENTITY_BYTES = 4
"""What a file carries of the checksum of the network that its indices were coded with."""

GROUP_ENDS = (676, 3104, 7574, 14263, 23303, 34803, 48854, 65536)
"""Of 2^16: (i / 8)^2.2."""

_ONE = float(1 << FRACTION_BITS)


def frozen_prior(shape: IndexPriorShape, stream: dict[str, Tensor]) -> IndexPrior:
    """Return the network in fixed point.

    Args:
        shape: Of the network.
        stream: ``prior.NAME.bits``, ``.weight`` and ``.bias`` of each layer.

    Raises:
        WeightsError: A tensor is missing, has a wrong shape, or breaks the exactness bound.
    """
    model = IndexPrior(shape)
    try:
        for name, layer in exact_modules(model).items():
            key = f"prior.{name}"
            layer.freeze(int(stream[f"{key}.bits"]), stream[f"{key}.weight"], stream[f"{key}.bias"])
    except KeyError as error:
        raise WeightsError(f"a tensor is missing: {error}") from error
    return model.double().eval().requires_grad_(False)


class NetworkPrior:
    """The network in fixed point, for the ladder of a codec.

    Args:
        stream: ``prior.mixing``, and what :func:`frozen_prior` takes.
        shape: Of the network.
        ladder: ``(2^(top + 1), E)``, rows of rung r from 2^r.

    Attributes:
        hints: What coders of scattered indices take.
        identity: What files carry; empty for a network without a card.
    """

    def __init__(self, stream: dict[str, Tensor], shape: IndexPriorShape, ladder: Tensor):
        self.model = frozen_prior(shape, stream)
        self._ladder = to_grid(ladder.double())
        weights = stream["prior.mixing"].numpy()
        if weights.shape != (DENSITIES * MOST_BITS, CONTEXTS * BUCKETS + 1):
            raise WeightsError(f"mixing weights of the prior are {weights.shape}")
        self.hints = Hints(self.foresee, weights, GROUP_ENDS)
        self.identity = b""

    @classmethod
    def of_card(cls, card: Card, ladder: Tensor) -> NetworkPrior:
        """Return the network of a card."""
        prior = cls(load_tensors(card), IndexPriorShape(**card.shape()), ladder)
        prior.identity = _identity(card)
        return prior

    def foresee(
        self,
        indices: np.ndarray,
        places: np.ndarray,
        asked: np.ndarray,
        shape: tuple[int, int],
        bits: int,
    ) -> LeafBits:
        """Return the bits of the positions ``asked`` for; see :class:`lic.coding.scatter.Hints`."""
        codebook = self._ladder[2**bits : 2 ** (bits + 1)]
        size, embed = shape[0] * shape[1], codebook.shape[1]
        codewords = torch.zeros(size, embed, dtype=torch.float64)
        known = torch.zeros(size, 1, dtype=torch.float64)
        there, wanted = torch.tensor(places), torch.tensor(asked)
        codewords[there], known[there] = codebook[torch.tensor(indices)], 1.0
        with torch.inference_mode():
            planes = (t.view(1, *shape, -1).permute(0, 3, 1, 2) for t in (codewords, known))
            rung = torch.tensor([float(bits)], dtype=torch.float64)
            vectors = self.model(*planes, rung)[0].flatten(1).T[wanted]
            logits = self.model.logits(vectors, codebook)
        return LeafBits((logits * _ONE).to(torch.int64).numpy(), bits)

    def checksum(self) -> str:
        """Return a digest of mixing weights and of what the network predicts for stored indices.

        A file carries its beginning, so that another network is told from the right one.
        """
        digest = hashlib.sha256(self.hints.weights.astype("<i4").tobytes())
        places = np.arange(11 * 13, dtype=np.int64)
        for bits in range(self.model.shape.bottom, self.model.shape.top + 1):
            indices = (places * places * 2654435761 >> 9) % 2**bits
            leaves = self.foresee(indices[::3], places[::3], places[1::3], (11, 13), bits)
            digest.update(leaves(0, np.ones(len(places[1::3]), np.int64)).astype("<i8").tobytes())
        return digest.hexdigest()


def find_prior(codec: Card, ladder: Tensor, identity: bytes | None = None) -> NetworkPrior:
    """Return the network for the indices of a codec.

    Args:
        codec: Weights that make the indices.
        ladder: Their codebooks, see :class:`NetworkPrior`.
        identity: What a file says about its network; any when ``None``.

    Raises:
        WeightsError: There is none.
    """
    cards = companions(codec, FAMILY)
    for card in cards:
        if identity in (None, _identity(card)):
            return NetworkPrior.of_card(card, ladder)
    wanted = "" if identity is None else f" {identity.hex()}"
    found = f"; found {', '.join(_identity(c).hex() for c in cards)}" if cards else ""
    raise WeightsError(
        f"weights '{FAMILY}'{wanted} for those of {codec.prefix().hex()} not found{found}"
    )


def _identity(card: Card) -> bytes:
    return bytes.fromhex(card.loop_checksum)[:IDENTITY_BYTES]


def verify_prior(card: Card) -> tuple[str, str]:
    """Return the checksum of a card's network on stored indices, and what was run.

    Raises:
        WeightsError: The weights whose indices it predicts are not here, or it cannot be used.
    """
    codecs = companions(card, "vqgan")
    if not codecs:
        raise WeightsError(f"'{card.name}' is for weights {card.prefix().hex()}, not found")
    ladder = load_tensors(codecs[0])["codebook.ladder"].float()
    prior = NetworkPrior.of_card(card, ladder)
    return prior.checksum(), "network and mixing weights, integers alone"
