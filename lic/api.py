"""What ``import lic`` offers: encode, decode, read_info, is_lic. The command line calls these too.

Torch is imported by the first call that needs a network; ``read_info`` and ``is_lic`` never do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lic.container import FAMILIES, INDEX_CODERS, Stream, is_lic, is_packets, parse_stream
from lic.container.packets import PACKETS_VERSION
from lic.container.received import receive
from lic.errors import LicError, UsageProblem
from lic.options import DEFAULT_QUALITY, DEFAULT_ROI_GAIN, EncodeOptions
from lic.pictures import DEFAULT_MAX_PIXELS, Picture
from lic.sources import as_picture, bytes_of

if TYPE_CHECKING:
    from lic.codecs.base import Codec, Encoded
    from lic.codecs.packeted import Mended

__all__ = [
    "DEFAULT_QUALITY",
    "LOOKS",
    "EncodeOptions",
    "decode",
    "encode",
    "encode_picture",
    "is_lic",
    "load_codec",
    "mend",
    "open_stream",
    "read_info",
    "transcode",
]

FAITHFUL = "faithful"
LOOKS = (FAITHFUL, "natural")
"""What ``decode`` makes of a file: what is nearest to the original, or what looks most like one."""

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
    look: str = FAITHFUL,
    realism: float | None = None,
) -> Picture:
    """Decode a ``.lic`` file or a packet stream; family and weights follow from its header.

    What is missing of a packet stream is concealed; :func:`mend` also tells how much that was.

    The symbols are the same on every machine; pixels may differ by 2/255 between machines and
    never between runs on one.

    Args:
        source: A path or the bytes of a file.
        weights: File or folder of weights; ``$LIC_WEIGHTS`` and the package when ``None``.
        max_pixels: Larger pictures are refused; 0 for no limit.
        threads: Strips at once; changes no pixel.
        conceal: Of ``lic.codecs.conceal.CONCEALERS``, for packet streams; the best that there is
            when ``None``.
        fast: Show files of ``hyperprior`` by a small synthesis, not quite as near to the original.
        look: ``faithful``, as near to the original as the file tells; or ``natural``, where what
            the file does not tell is invented, so that surfaces have a texture (``hyperprior``).
        realism: How far to go from ``faithful``, 0, to ``natural``, 1 (the default with it).

    Raises:
        UsageProblem: ``conceal`` for a file, ``fast`` or ``natural`` where no such synthesis is,
            both of them, or ``realism`` without ``natural`` or outside of 0..1.
        StreamError: Anything but an intact file of a known version.
        NothingReceived: A packet stream of which nothing usable arrived.
        LimitError: More pixels than ``max_pixels``.
        WeightsError: The weights that the file was written with are not here.
        TypeError: ``source`` is neither path nor bytes.
    """
    data, _ = bytes_of(source)
    if is_packets(data):
        if fast or look != FAITHFUL:
            raise UsageProblem("packets have one synthesis; leave 'fast' and 'look' out")
        return mend(
            source, conceal=conceal, weights=weights, max_pixels=max_pixels, threads=threads
        ).picture
    if conceal is not None:
        raise UsageProblem("conceal is for packet streams")
    codec, stream = open_stream(
        source,
        weights=weights,
        max_pixels=max_pixels,
        threads=threads,
        fast=fast,
        look=look,
        realism=realism,
    )
    picture: Picture = codec.decode_stream(stream)
    return picture


def open_stream(
    source: str | Path | bytes,
    *,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
    name: str | None = None,
    fast: bool = False,
    look: str = FAITHFUL,
    realism: float | None = None,
) -> tuple[Any, Stream]:
    """Check a file and load its weights; returns the codec and what its ``decode_stream`` takes.

    Args and errors are those of :func:`decode`; ``name`` stands in messages for the source.
    """
    from lic.codecs.registry import FAST, NATURAL, codec_for_stream

    _check_look(fast, look, realism)
    data, path = bytes_of(source)
    stream = parse_stream(data, name=name or path, max_pixels=max_pixels)
    family = FAMILIES[stream.family]
    codec = codec_for_stream(
        family,
        stream.fingerprint,
        weights=weights,
        threads=threads,
        synthesis=FAST if fast else NATURAL if look == "natural" else None,
        part=1.0 if realism is None else realism,
    )
    return codec, stream


def _check_look(fast: bool, look: str, realism: float | None) -> None:
    if look not in LOOKS:
        raise UsageProblem(f"look '{look}' is not one of {', '.join(LOOKS)}")
    if fast and look != FAITHFUL:
        raise UsageProblem(f"there is no fast synthesis with the look '{look}'; leave one out")
    if realism is not None and look == FAITHFUL:
        raise UsageProblem("realism goes with the look 'natural'")
    if realism is not None and not 0 <= realism <= 1:
        raise UsageProblem(f"realism {realism:g} is outside 0..1")


def mend(
    source: str | Path | bytes,
    *,
    conceal: str | None = None,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
    name: str | None = None,
) -> Mended:
    """Decode a packet stream and tell what was missing.

    Args and errors are those of :func:`decode`; ``name`` stands in messages for the source.
    """
    from lic.codecs.registry import packet_codec

    data, path = bytes_of(source)
    try:
        received = receive(data, max_pixels)
        prefix = received.header.fingerprint
        codec = packet_codec(prefix, weights=weights, threads=threads)
        return codec.mend(received, conceal)
    except LicError as error:
        place = name or path
        raise (error.about(place) if place else error) from None


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
    codec, stream = open_stream(source, weights=weights, max_pixels=max_pixels, threads=threads)
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
