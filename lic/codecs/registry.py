"""Codecs by name, loaded when asked for and kept, so that a batch loads its networks once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic.codecs.base import Codec
from lic.codecs.effort import EffortCodec
from lic.errors import UsageProblem
from lic.weights.store import DEFAULT_TUNE, Card, find_weights

if TYPE_CHECKING:
    from lic.codecs.packeted import PacketCodec

__all__ = [
    "LEARNED",
    "codec_for_stream",
    "codec_names",
    "get_codec",
    "learned_codec",
    "load_codec",
    "packet_codec",
    "unknown_codec",
]

LEARNED = ("hyperprior", "acgc", "segpic", "vqgan")
"""Families that write ``.lic`` files."""

_COMPRESSAI = "compressai:"
_loaded: dict[str, Codec] = {}
_packeted: dict[Codec, PacketCodec] = {}


def load_codec(card: Card, threads: int = 1) -> Codec:
    """Return the codec of a card, its networks loaded anew."""
    import torch

    from lic.codecs.acgc import AcgcCodec
    from lic.codecs.hyperprior import HyperpriorCodec
    from lic.codecs.segpic import SegpicCodec
    from lic.codecs.vqgan import VqganCodec

    makers: dict[str, Callable[[Card, int], Codec]] = {
        "acgc": AcgcCodec,
        "hyperprior": HyperpriorCodec,
        "segpic": SegpicCodec,
        "vqgan": VqganCodec,
    }
    # The networks are kept and may be asked for gradients when the caller's inference is over.
    with torch.inference_mode(False):
        return makers[card.family](card, threads)


def learned_codec(card: Card, threads: int = 1, synthesis: str | None = None) -> Codec:
    """Return the codec of a card; its networks are loaded at the first call and kept.

    Args:
        card: Weights of a family.
        threads: Strips or pictures at once.
        synthesis: Name of what shows its files instead of its own synthesis.

    Raises:
        UsageProblem: There is no such synthesis for these weights.
        WeightsError: Weights are missing, changed or do not fit.
    """
    key = f"{card.path}:{card.sha256}:{threads}"
    if key not in _loaded:
        _loaded[key] = load_codec(card, threads)
    if synthesis is None:
        return _loaded[key]
    return _shown_by(key, synthesis)


def _shown_by(key: str, synthesis: str) -> Codec:
    import torch

    from lic.codecs.synthesis import SynthesisCodec, find_synthesis

    codec: Any = _loaded[key]
    card = find_synthesis(codec.card, synthesis)
    key = f"{key}:{card.path}:{card.sha256}"
    if key not in _loaded:
        with torch.inference_mode(False):
            _loaded[key] = SynthesisCodec(codec, card)
    return _loaded[key]


def get_codec(
    name: str,
    *,
    weights: str | Path | None = None,
    threads: int = 1,
    tune: str | None = None,
    prefer: str = DEFAULT_TUNE,
) -> Codec:
    """Return a codec by name.

    Args:
        name: A family, a classic codec, or ``compressai:NAME[:QUALITY[:CHECKPOINT]]``. Behind a
            family of latents may stand what it is tuned for as in ``hyperprior-psnr``, and then an
            effort as in ``hyperprior@7`` or another synthesis as in ``hyperprior:fast``.
        weights: Weights of a family instead of those found.
        threads: Strips or pictures at once, for families.
        tune: What the weights of a family must be tuned for, where the name does not tell.
        prefer: What they should be tuned for, where there is a choice.

    Raises:
        UsageProblem: No codec of that name, the nearest known one is named; or no weights of the
            family with that tune.
        WeightsError: A family's weights cannot be used.
    """
    rest, at, level = name.partition("@")
    rest, colon, synthesis = rest.partition(":")
    family, dash, tuned = rest.partition("-")
    if family in LEARNED and not (at and colon):
        card = find_weights(family, path=weights, tune=tuned if dash else tune, prefer=prefer)
        codec = learned_codec(card, threads, synthesis if colon else None)
        return _with_effort(codec, level) if at else codec
    if name.startswith(_COMPRESSAI):
        from lic.codecs.compressai_models import CompressaiCodec

        return CompressaiCodec.from_name(name)
    from lic.codecs.classic import CLASSIC

    if name in CLASSIC:
        return CLASSIC[name]()
    raise unknown_codec(name, codec_names())


def _with_effort(codec: Codec, level: str) -> Codec:
    from lic.codecs.latent import LatentCodec

    if not isinstance(codec, LatentCodec):
        raise UsageProblem(f"'{codec.name}' has one effort only; leave @{level} out")
    if not level.isdecimal():
        raise UsageProblem(f"no effort '{level}'; 1 to 9 may stand behind {codec.name}@")
    return EffortCodec(codec, int(level))


def unknown_codec(name: str, known: Sequence[str]) -> UsageProblem:
    """Return the error for a name that is none of ``known``; the nearest one is named."""
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return UsageProblem(f"no codec '{name}'; {hint}")


def packet_codec(
    prefix: bytes | None = None, *, weights: str | Path | None = None, threads: int = 1
) -> PacketCodec:
    """Return the codec for packets of ``vqgan``.

    Args:
        prefix: Fingerprint that the packets carry; any when ``None``.
        weights: Instead of those found.
        threads: Strips or pictures at once.

    Raises:
        WeightsError: No weights with that fingerprint.
    """
    from lic.codecs.packeted import PacketCodec
    from lic.codecs.vqgan import VqganCodec

    codec = learned_codec(find_weights("vqgan", prefix=prefix, path=weights), threads)
    assert isinstance(codec, VqganCodec)
    if codec not in _packeted:
        _packeted[codec] = PacketCodec(codec)
    return _packeted[codec]


def codec_names() -> list[str]:
    """Return all names that :func:`get_codec` knows, without CompressAI's."""
    from lic.codecs.classic import CLASSIC

    return [*LEARNED, *CLASSIC]


def codec_for_stream(
    family: str,
    prefix: bytes,
    *,
    weights: str | Path | None = None,
    threads: int = 1,
    synthesis: str | None = None,
    part: float = 1.0,
) -> Codec:
    """Return the codec that can decode a stream of ``family`` with fingerprint ``prefix``.

    Args:
        family, prefix: Of the stream.
        weights: File or folder of weights instead of those found.
        threads: Strips or pictures at once.
        synthesis: As of :func:`learned_codec`.
        part: How much of it is mixed into the codec's own, 0..1.

    Raises:
        UsageProblem: No such synthesis for these weights.
        WeightsError: No weights with that fingerprint.
    """
    from lic.codecs.synthesis import SynthesisCodec

    codec = learned_codec(find_weights(family, prefix=prefix, path=weights), threads, synthesis)
    return codec.blended(part) if isinstance(codec, SynthesisCodec) and part != 1 else codec
