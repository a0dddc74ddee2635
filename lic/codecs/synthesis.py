"""Other synthesis networks for the files of a family, by name.

A file names what its symbols were coded with; how they are shown is up to the decoder. Weights
``synthesis-NAME`` that carry the fingerprint of a codec's weights belong to the same files. They
are looked for when somebody asks for them, beside the codec's first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lic.codecs.base import Encoded
from lic.codecs.latent import LatentCodec
from lic.codecs.plan import ready
from lic.container import Stream
from lic.errors import UsageProblem, WeightsError
from lic.networks.gains import SynthesisModel
from lic.pictures import Picture
from lic.weights import Card, companions, load_tensors, network_state

__all__ = ["SynthesisCodec", "find_synthesis"]

_FAMILY = "synthesis-"


def find_synthesis(card: Card, name: str) -> Card:
    """Return the card of a synthesis for the files of a codec.

    Args:
        card: Weights of the codec.
        name: Name of the synthesis, such as ``fast``.

    Raises:
        UsageProblem: There is none of that name.
    """
    found = companions(card, _FAMILY + name)
    if not found:
        raise UsageProblem(
            f"no {name} synthesis was made for weights {card.prefix().hex()} of '{card.family}'; "
            f"decode without '{name}'"
        )
    return found[0]


class SynthesisCodec:
    """A codec whose files are shown by another synthesis.

    Files are those of the codec, byte for byte, and all checks of symbols are the same.

    Args:
        codec: Codec of a family with latents.
        card: Weights of the synthesis, see :func:`find_synthesis`.

    Raises:
        WeightsError: They are missing, changed or do not fit.
    """

    def __init__(self, codec: LatentCodec, card: Card):
        self.codec, self.card = codec, card
        self.name = f"{codec.name}:{card.family.removeprefix(_FAMILY)}"
        self._model = _load(card, codec)
        self.shown = codec.shown_by(self._model)

    def blended(self, part: float) -> SynthesisCodec:
        """Return a codec that shows a mixture of the codec's own synthesis and this one.

        Between a picture of least squared error and one that looks real lie the best compromises of
        both (Yan et al., arXiv 2206.10082).

        Args:
            part: 0 for the codec's own synthesis alone, 1 for this one.
        """
        mixed = copy.copy(self)
        if part <= 0:
            mixed.shown = self.codec
        elif part < 1:
            mixed.shown = self.codec.shown_by(_Blend(self.codec.synthesiser, self._model, part))
            mixed.shown.halo = max(self.codec.halo, self.shown.halo)
        return mixed

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture; arguments as of :meth:`lic.codecs.latent.LatentCodec.encode`."""
        wanted = options.pop("reconstruct", False)
        encoded = self.codec.encode(picture, quality, **options)
        return replace(encoded, reconstruction=self.decode(encoded.data)) if wanted else encoded

    def decode(self, data: bytes) -> Picture:
        """Decode one file."""
        return self.shown.decode(data)

    def decode_stream(self, stream: Stream) -> Picture:
        """Decode a parsed stream."""
        return self.shown.decode_stream(stream)

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode several pictures in order."""
        if options.get("reconstruct"):
            return (self.encode(p, quality, **options) for p in pictures)
        return self.codec.encode_many(pictures, quality, **options)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode several files in order."""
        return self.shown.decode_many(files)


class _Blend(SynthesisModel):
    """Levels between those of two syntheses; shares their networks."""

    def __init__(self, first: Any, second: SynthesisModel, part: float):
        super().__init__(second.shape, second.g_s)
        self._first, self._second, self._part = (first,), second, part

    def synthesise(self, y_hat: Tensor, normalised: Tensor, rate: Tensor) -> Tensor:
        """Return levels, as :meth:`lic.networks.gains.GainModel.synthesise`."""
        ends = [m.synthesise(y_hat, normalised, rate) for m in (self._first[0], self._second)]
        return torch.lerp(ends[0], ends[1], self._part)


def _load(card: Card, codec: LatentCodec) -> SynthesisModel:
    model = codec.synthesis(card.shape())
    if model.shape.latents != codec.model.shape.latents:
        raise WeightsError("is a synthesis for other latents", str(card.path))
    missing, foreign = model.load_state_dict(network_state(load_tensors(card)), strict=False)
    for name in (*missing, *foreign):
        raise WeightsError(f"does not fit its card: '{name}'", str(card.path))
    shown: SynthesisModel = ready(model)
    return shown
