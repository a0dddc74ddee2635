"""What ``import lic`` offers: encode, decode, read_info, is_lic. The command line calls these too.

Torch is imported by the first call that needs a network; ``read_info`` and ``is_lic`` never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic.container import FAMILIES, INDEX_CODERS, Stream, is_lic, is_packets, parse_stream
from lic.container.packets import PACKETS_VERSION
from lic.container.received import receive
from lic.errors import LicError, UsageProblem
from lic.options import (
    DEFAULT_QUALITY,
    DEFAULT_ROI_GAIN,
    LOOKS,
    DecodeOptions,
    EncodeOptions,
)
from lic.pictures import DEFAULT_MAX_PIXELS, Picture
from lic.sources import as_picture, bytes_of

if TYPE_CHECKING:
    from lic.codecs.base import Codec, Encoded
    from lic.codecs.packeted import Mended

__all__ = [
    "DEFAULT_QUALITY",
    "DecodeOptions",
    "Decoded",
    "EncodeOptions",
    "decode",
    "encode",
    "encode_picture",
    "is_lic",
    "load_codec",
    "mend",
    "open_coded",
    "read_info",
    "transcode",
]

_FILE_OPTIONS = ("effort", "codebook_size", "index_coder")


def encode(
    picture: Any,
    *,
    codec: str = "hyperprior",
    tune: str | None = None,
    quality: float | None = None,
    target_bpp: float | None = None,
    target_size: int | None = None,
    target_psnr: float | None = None,
    target_ssimulacra2: float | None = None,
    metadata: str = "icc",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    weights: str | None = None,
    threads: int = 1,
    check: bool = False,
    effort: int | None = None,
    codebook_size: int | None = None,
    index_coder: str | None = None,
    packets: bool = False,
    payload: int | None = None,
    parity: int = 0,
    roi: Any = None,
    roi_gain: float = DEFAULT_ROI_GAIN,
) -> bytes:
    """Encode a picture to the bytes of a ``.lic`` file, or of a packet stream.

    The bytes depend on picture, options and weights alone: not on threads or the day.

    Args:
        picture: A path, the bytes of a picture file, uint8 of shape ``(H, W, 3)`` for RGB or
            ``(H, W)`` for grey, a Pillow image, or a ``Picture``.
        codec, tune, quality, target_bpp, target_size, target_psnr, target_ssimulacra2, metadata,
            max_pixels, weights, threads, check, effort, codebook_size, index_coder, packets,
            payload, parity, roi, roi_gain: See :class:`EncodeOptions`.

    Raises:
        UsageProblem: Options contradict each other, or a target cannot be met.
        InputError: The picture cannot be read or is not supported.
        LimitError: It has more pixels than ``max_pixels``.
        WeightsError: The family's weights cannot be used.
        TypeError: ``picture`` is none of these.
    """
    settings = EncodeOptions(
        codec=codec,
        tune=tune,
        quality=quality,
        target_bpp=target_bpp,
        target_size=target_size,
        target_psnr=target_psnr,
        target_ssimulacra2=target_ssimulacra2,
        metadata=metadata,
        max_pixels=max_pixels,
        weights=weights,
        threads=threads,
        check=check,
        effort=effort,
        codebook_size=codebook_size,
        index_coder=index_coder,
        packets=packets,
        payload=payload,
        parity=parity,
        roi=roi,
        roi_gain=roi_gain,
    )
    return encode_picture(as_picture(picture, settings.max_pixels), settings).data


def load_codec(settings: EncodeOptions) -> Codec:
    """Return the codec that the options name; its networks are loaded once.

    Raises:
        UsageProblem: No family of that name, or no weights of it with that tune.
        WeightsError: The family's weights cannot be used.
    """
    from lic.codecs.registry import LEARNED, codec_names, get_codec, packet_codec, unknown_codec

    if settings.codec not in LEARNED:
        known = ", ".join(LEARNED)
        kind, _, _ = settings.codec.partition(":")
        if kind in (*codec_names(), "compressai"):
            raise UsageProblem(
                f"'{settings.codec}' writes no .lic files, it is for 'lic eval'; known: {known}"
            )
        raise unknown_codec(settings.codec, LEARNED)
    if settings.packets:
        return packet_codec(weights=settings.weights, threads=settings.threads)
    return get_codec(
        settings.codec,
        weights=settings.weights,
        threads=settings.threads,
        tune=settings.tune,
        prefer=settings.preferred_tune,
    )


def encode_picture(picture: Picture, settings: EncodeOptions) -> Encoded:
    """Encode a picture that is in memory; also returns figures, see ``Encoded``."""
    from lic.codecs.roi import gain_map_of
    from lic.codecs.search import encode_to_psnr, encode_to_size, encode_to_ssimulacra2

    codec = load_codec(settings)
    picture = _with_metadata(picture, settings.metadata)
    wanted: dict[str, Any] = {"reconstruct": True} if settings.check else {}
    names = ("codebook_size", "payload", "parity") if settings.packets else _FILE_OPTIONS
    wanted |= {n: v for n in names if (v := getattr(settings, n)) is not None}
    if settings.roi is not None:
        mask = as_picture(settings.roi, settings.max_pixels)
        wanted["gain_map"] = gain_map_of(codec, mask, picture, settings.roi_gain)
    if settings.target_psnr is not None:
        encoded = encode_to_psnr(codec, picture, settings.target_psnr, **wanted)
    elif settings.target_ssimulacra2 is not None:
        encoded = encode_to_ssimulacra2(codec, picture, settings.target_ssimulacra2, **wanted)
    elif settings.target_size is not None:
        encoded = encode_to_size(codec, picture, settings.target_size, **wanted)
    elif settings.target_bpp is not None:
        size = settings.target_bpp * picture.width * picture.height / 8
        encoded = encode_to_size(codec, picture, size, **wanted)
    else:
        quality = DEFAULT_QUALITY if settings.quality is None else settings.quality
        encoded = codec.encode(picture, quality, **wanted)
    if settings.check and codec.decode(encoded.data) != encoded.reconstruction:
        raise LicError("internal error: the file does not decode to the encoder's reconstruction")
    return encoded


def decode(
    source: str | Path | bytes,
    *,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
    conceal: str | None = None,
    fast: bool = False,
    look: str = LOOKS[0],
    realism: float | None = None,
) -> Picture:
    """Decode a ``.lic`` file or a packet stream; family and weights follow from its header.

    What is missing of a packet stream is concealed; :func:`mend` also tells how much that was.

    The symbols are the same on every machine; pixels may differ by 2/255 between machines and
    never between runs on one.

    Args:
        source: A path or the bytes of a file.
        weights, max_pixels, threads, conceal, fast, look, realism: See :class:`DecodeOptions`.

    Raises:
        UsageProblem: ``conceal`` for a file, ``fast`` or ``natural`` where no such synthesis is,
            both of them, or ``realism`` without ``natural`` or outside of 0..1.
        StreamError: Anything but an intact file of a known version.
        NothingReceived: A packet stream of which nothing usable arrived.
        LimitError: More pixels than ``max_pixels``.
        WeightsError: The weights that the file was written with are not here.
        TypeError: ``source`` is neither path nor bytes.
    """
    settings = DecodeOptions(
        weights=weights,
        max_pixels=max_pixels,
        threads=threads,
        conceal=conceal,
        fast=fast,
        look=look,
        realism=realism,
    )
    data, name = bytes_of(source)
    return open_coded(data, settings, name)().picture


@dataclass(frozen=True)
class Decoded:
    """A decoded picture.

    Attributes:
        picture: What is shown.
        mended: What was missing, for packet streams; ``None`` for files.
    """

    picture: Picture
    mended: Mended | None = None


def open_coded(
    data: bytes, settings: DecodeOptions, name: str | None = None
) -> Callable[[], Decoded]:
    """Check a file or a packet stream and load its weights; returns what decodes it.

    Args:
        data: The whole file or stream.
        settings: How to decode.
        name: Stands in messages for the source.

    Raises:
        As :func:`decode`, here or when the result is called.
    """
    with _about(name):
        decode = _open_packets(data, settings) if is_packets(data) else _open_file(data, settings)

    def named() -> Decoded:
        with _about(name):
            return decode()

    return named


def _open_packets(data: bytes, settings: DecodeOptions) -> Callable[[], Decoded]:
    from lic.codecs.registry import packet_codec

    settings.check_packets()
    received = receive(data, settings.max_pixels)
    codec = packet_codec(
        received.header.fingerprint, weights=settings.weights, threads=settings.threads
    )

    def mended() -> Decoded:
        found = codec.mend(received, settings.conceal)
        return Decoded(found.picture, found)

    return mended


def _open_file(data: bytes, settings: DecodeOptions) -> Callable[[], Decoded]:
    settings.check_file()
    stream = parse_stream(data, max_pixels=settings.max_pixels)
    codec = _codec_of(stream, settings)
    return lambda: Decoded(codec.decode_stream(stream))


def _codec_of(stream: Stream, settings: DecodeOptions) -> Any:
    from lic.codecs.registry import codec_for_stream

    return codec_for_stream(
        FAMILIES[stream.family],
        stream.fingerprint,
        weights=settings.weights,
        threads=settings.threads,
        synthesis=settings.synthesis,
        part=1.0 if settings.realism is None else settings.realism,
    )


@contextmanager
def _about(name: str | None) -> Iterator[None]:
    """Let errors name their source."""
    try:
        yield
    except LicError as error:
        raise (error.about(name) if name else error) from None


def mend(
    source: str | Path | bytes,
    *,
    conceal: str | None = None,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
) -> Mended:
    """Decode a packet stream and tell what was missing.

    Args and errors are those of :func:`decode`.
    """
    settings = DecodeOptions(
        weights=weights, max_pixels=max_pixels, threads=threads, conceal=conceal
    )
    data, name = bytes_of(source)
    with _about(name):
        found = _open_packets(data, settings)().mended
    assert found is not None
    return found


def transcode(
    source: str | Path | bytes,
    codebook_size: int | None = None,
    *,
    target_size: int | None = None,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
) -> bytes:
    """Make a smaller ``vqgan`` file of one, without the picture: indices lose their last bits.

    Args:
        source: A path or the bytes of a file.
        codebook_size: Codewords of the new file, a power of two.
        target_size: Instead, bytes that the new file has at most; the largest codebook that fits.
        weights, max_pixels, threads: As :func:`decode`.

    Raises:
        UsageProblem: Neither or both are given, the file is of another family, its codebook is
            not larger, or the target cannot be met.
        StreamError, LimitError, WeightsError, TypeError: As :func:`decode`.
    """
    if (codebook_size is None) == (target_size is None):
        raise UsageProblem("give one of codebook-size, target-size")
    data, name = bytes_of(source)
    stream = parse_stream(data, name=name, max_pixels=max_pixels)
    with _about(name):
        codec = _codec_of(stream, DecodeOptions(weights=weights, threads=threads))
    if not hasattr(codec, "transcode"):
        raise UsageProblem(f"a file of '{codec.name}' has no codebook; encode the picture again")
    if target_size is None:
        return bytes(codec.transcode(stream, codebook_size).data)
    return bytes(codec.transcode_to_size(stream, target_size).data)


def read_info(
    source: str | Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[str, Any]:
    """Check a ``.lic`` file or packet stream and return its header as plain values, without torch.

    Raises:
        StreamError: As :func:`decode`, for all that header and checksum show.
        LimitError: More pixels than ``max_pixels``.
        TypeError: ``source`` is neither path nor bytes.
    """
    data, name = bytes_of(source)
    if is_packets(data):
        return _describe_packets(data, name, max_pixels)
    stream = parse_stream(data, name=name, max_pixels=max_pixels)
    return _describe(stream, len(data))


def _describe(stream: Stream, size: int) -> dict[str, Any]:
    pixels = stream.width * stream.height
    return {
        "format_version": stream.version,
        "family": FAMILIES[stream.family],
        "weights": stream.fingerprint.hex(),
        "width": stream.width,
        "height": stream.height,
        "grey": stream.grey,
        **_quality(stream),
        "bytes": size,
        "bpp": round(8 * size / pixels, 5),
        "payload_bytes": len(stream.payload),
        "tiles": len(stream.tiles) if stream.tiles is not None else 1,
        "gain_map": stream.gain_map is not None,
        "icc_bytes": len(stream.icc or b""),
        "exif_bytes": len(stream.exif or b""),
        "xmp_bytes": len(stream.xmp or b""),
        "skipped_sections": list(stream.unknown),
    }


def _describe_packets(data: bytes, name: str | None, max_pixels: int) -> dict[str, Any]:
    try:
        received = receive(data, max_pixels)
    except LicError as error:
        raise (error.about(name) if name else error) from None
    header = received.header
    return {
        "format_version": PACKETS_VERSION,
        "family": "vqgan",
        "weights": header.fingerprint.hex(),
        "width": header.width,
        "height": header.height,
        "grey": header.grey,
        "codebook_size": 2**header.bits,
        "bytes": len(data),
        "bpp": round(8 * len(data) / header.width / header.height, 5),
        "packets": header.count,
        "packets_received": received.data,
        "parity": header.parity,
        "parity_received": len(received.payloads) - received.data,
        "datagrams": received.datagrams,
        "damaged": received.damaged,
        "doubled": received.doubled,
        "foreign": received.foreign,
    }


def _quality(stream: Stream) -> dict[str, Any]:
    if FAMILIES[stream.family] == "vqgan":
        coder, bits = divmod(stream.quality, 16)
        names = {number: name for name, number in INDEX_CODERS.items()}
        return {"codebook_size": 2**bits, "index_coder": names.get(coder, str(coder))}
    return {"quality": round(stream.quality / 2.55, 2)}


def _with_metadata(picture: Picture, keep: str) -> Picture:
    if keep == "all":
        return picture
    icc = picture.icc if keep == "icc" else None
    return Picture(picture.pixels, picture.grey, icc, None, None)
