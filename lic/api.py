"""What ``import lic`` offers: encode, decode, read_info, is_lic. The command line calls these too.

Torch is imported by the first call that needs a network; ``read_info`` and ``is_lic`` never do.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lic.container import FAMILIES, Stream, is_lic, is_packets, parse_stream
from lic.container.packets import PACKETS_VERSION
from lic.container.received import receive
from lic.errors import InputError, LicError, UsageProblem
from lic.pictures import DEFAULT_MAX_PIXELS, Picture, read_picture

if TYPE_CHECKING:
    from lic.codecs.base import Codec, Encoded
    from lic.codecs.packeted import Mended

__all__ = [
    "DEFAULT_QUALITY",
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

DEFAULT_QUALITY = 50.0
_FILE_OPTIONS = ("codebook_size", "index_coder")
_METADATA = ("none", "icc", "all")


@dataclass(frozen=True)
class EncodeOptions:
    """Settings of an encoding; at most one of quality and the targets may be given.

    Attributes:
        codec: Family.
        quality: 0..100, 50 when nothing else is given.
        target_bpp: Bits per pixel of the whole file, not exceeded.
        target_size: Bytes of the whole file, not exceeded.
        target_psnr: dB on 8-bit RGB, reached or exceeded.
        metadata: ``none``, ``icc`` or ``all`` (EXIF and XMP too).
        max_pixels: Larger pictures are refused; 0 for no limit.
        weights: File or folder of weights instead of those found.
        threads: Strips or pictures at once; changes no byte.
        check: Decode what was encoded and compare before returning.
        codebook_size: Codewords of ``vqgan``, a power of two, instead of a quality.
        index_coder: Of ``vqgan``: ``tree``, ``static``, ``uniform``, or ``transformer``, which
            needs a network of its own; ``tree`` when ``None``.
        packets: Of ``vqgan``: write datagrams that survive losses instead of a file.
        payload: Bytes of a datagram's payload at most, with ``packets``.
        parity: Datagrams that replace lost ones, with ``packets``; needs zfec.
    """

    codec: str = "hyperprior"
    quality: float | None = None
    target_bpp: float | None = None
    target_size: int | None = None
    target_psnr: float | None = None
    metadata: str = "icc"
    max_pixels: int = DEFAULT_MAX_PIXELS
    weights: str | None = None
    threads: int = 1
    check: bool = False
    codebook_size: int | None = None
    index_coder: str | None = None
    packets: bool = False
    payload: int | None = None
    parity: int = 0

    def __post_init__(self) -> None:
        goals = [
            self.quality,
            self.target_bpp,
            self.target_size,
            self.target_psnr,
            self.codebook_size,
        ]
        if sum(g is not None for g in goals) > 1:
            raise UsageProblem(
                "give one of quality, target-bpp, target-size, target-psnr, codebook-size"
            )
        for name in ("codebook_size", "payload", "parity"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{name} must be a whole number, not {value!r}")
        for name in ("quality", "target_bpp", "target_size", "target_psnr"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float)
            ):
                raise TypeError(f"{name} must be a number, not {value!r}")
        self._check_vqgan()
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise UsageProblem(f"quality {self.quality:g} is outside 0..100")
        for name in ("target_bpp", "target_size", "target_psnr"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageProblem(f"{name.replace('_', '-')} must be above 0")
        if self.metadata not in _METADATA:
            raise UsageProblem(f"metadata '{self.metadata}' is not one of {', '.join(_METADATA)}")

    def _check_vqgan(self) -> None:
        for name in ("codebook_size", "index_coder", "packets"):
            if getattr(self, name) not in (None, False) and self.codec != "vqgan":
                raise UsageProblem(f"{name.replace('_', '-')} needs the codec vqgan")
        if self.packets and self.index_coder is not None:
            raise UsageProblem("packets have an index coder of their own; leave index-coder out")
        if self.packets and self.metadata == "all":
            raise UsageProblem("metadata does not travel in packets; leave 'all' out")
        if not self.packets and (self.payload is not None or self.parity):
            raise UsageProblem("payload and parity go with packets")
        if self.parity < 0:
            raise UsageProblem(f"parity {self.parity}: a number of datagrams, 0 or more")
        if self.payload is not None and self.payload < 1:
            raise UsageProblem(f"payload {self.payload}: bytes of a datagram, 1 or more")


def encode(
    picture: Any,
    *,
    codec: str = "hyperprior",
    quality: float | None = None,
    target_bpp: float | None = None,
    target_size: int | None = None,
    target_psnr: float | None = None,
    metadata: str = "icc",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    weights: str | None = None,
    threads: int = 1,
    check: bool = False,
    codebook_size: int | None = None,
    index_coder: str | None = None,
    packets: bool = False,
    payload: int | None = None,
    parity: int = 0,
) -> bytes:
    """Encode a picture to the bytes of a ``.lic`` file, or of a packet stream.

    The bytes depend on picture, options and weights alone: not on threads or the day.

    Args:
        picture: A path, the bytes of a picture file, uint8 of shape ``(H, W, 3)`` for RGB or
            ``(H, W)`` for grey, a Pillow image, or a ``Picture``.
        codec, quality, target_bpp, target_size, target_psnr, metadata, max_pixels, weights,
            threads, check, codebook_size, index_coder, packets, payload, parity: See
            :class:`EncodeOptions`.

    Raises:
        UsageProblem: Options contradict each other, or a target cannot be met.
        InputError: The picture cannot be read or is not supported.
        LimitError: It has more pixels than ``max_pixels``.
        WeightsError: The family's weights cannot be used.
        TypeError: ``picture`` is none of these.
    """
    settings = EncodeOptions(
        codec=codec,
        quality=quality,
        target_bpp=target_bpp,
        target_size=target_size,
        target_psnr=target_psnr,
        metadata=metadata,
        max_pixels=max_pixels,
        weights=weights,
        threads=threads,
        check=check,
        codebook_size=codebook_size,
        index_coder=index_coder,
        packets=packets,
        payload=payload,
        parity=parity,
    )
    return encode_picture(_as_picture(picture, settings), settings).data


def load_codec(settings: EncodeOptions) -> Codec:
    """Return the codec that the options name; its networks are loaded once.

    Raises:
        UsageProblem: No family of that name.
        WeightsError: The family's weights cannot be used.
    """
    from lic.codecs.registry import LEARNED, codec_names, get_codec, packet_codec

    if settings.codec not in LEARNED and settings.codec in codec_names():
        known = ", ".join(LEARNED)
        raise UsageProblem(
            f"'{settings.codec}' writes no .lic files, it is for 'lic eval'; {known}"
        )
    if settings.packets:
        return packet_codec(weights=settings.weights, threads=settings.threads)
    return get_codec(settings.codec, weights=settings.weights, threads=settings.threads)


def encode_picture(picture: Picture, settings: EncodeOptions) -> Encoded:
    """Encode a picture that is in memory; also returns figures, see ``Encoded``."""
    from lic.codecs.search import encode_to_psnr, encode_to_size

    codec = load_codec(settings)
    picture = _with_metadata(picture, settings.metadata)
    wanted: dict[str, Any] = {"reconstruct": True} if settings.check else {}
    names = ("codebook_size", "payload", "parity") if settings.packets else _FILE_OPTIONS
    wanted |= {n: v for n in names if (v := getattr(settings, n)) is not None}
    if settings.target_psnr is not None:
        encoded = encode_to_psnr(codec, picture, settings.target_psnr, **wanted)
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

    Raises:
        StreamError: Anything but an intact file of a known version.
        NothingReceived: A packet stream of which nothing usable arrived.
        LimitError: More pixels than ``max_pixels``.
        WeightsError: The weights that the file was written with are not here.
        TypeError: ``source`` is neither path nor bytes.
    """
    data, _ = _bytes_of(source)
    if is_packets(data):
        return mend(
            source, conceal=conceal, weights=weights, max_pixels=max_pixels, threads=threads
        ).picture
    if conceal is not None:
        raise UsageProblem("conceal is for packet streams")
    codec, stream = open_stream(source, weights=weights, max_pixels=max_pixels, threads=threads)
    picture: Picture = codec.decode_stream(stream)
    return picture


def open_stream(
    source: str | Path | bytes,
    *,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
    name: str | None = None,
) -> tuple[Any, Stream]:
    """Check a file and load its weights; returns the codec and what its ``decode_stream`` takes.

    Args and errors are those of :func:`decode`; ``name`` stands in messages for the source.
    """
    from lic.codecs.registry import codec_for_stream

    data, path = _bytes_of(source)
    stream = parse_stream(data, name=name or path, max_pixels=max_pixels)
    family = FAMILIES[stream.family]
    codec = codec_for_stream(family, stream.fingerprint, weights=weights, threads=threads)
    return codec, stream


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

    data, path = _bytes_of(source)
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
    codebook_size: int,
    *,
    weights: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    threads: int = 1,
) -> bytes:
    """Make a smaller ``vqgan`` file of one, without the picture: indices lose their last bits.

    Args:
        source: A path or the bytes of a file.
        codebook_size: Codewords of the new file, a power of two.
        weights, max_pixels, threads: As :func:`decode`.

    Raises:
        UsageProblem: The file is of another family, or its codebook is not larger.
        StreamError, LimitError, WeightsError, TypeError: As :func:`decode`.
    """
    codec, stream = open_stream(source, weights=weights, max_pixels=max_pixels, threads=threads)
    if not hasattr(codec, "transcode"):
        raise UsageProblem(f"a file of '{codec.name}' has no codebook; encode the picture again")
    encoded: Encoded = codec.transcode(stream, codebook_size)
    return encoded.data


def read_info(
    source: str | Path | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[str, Any]:
    """Check a ``.lic`` file or packet stream and return its header as plain values, without torch.

    Raises:
        StreamError: As :func:`decode`, for all that header and checksum show.
        LimitError: More pixels than ``max_pixels``.
        TypeError: ``source`` is neither path nor bytes.
    """
    data, name = _bytes_of(source)
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
        return {"codebook_size": 2**bits, "index_coder": coder}
    return {"quality": round(stream.quality / 2.55, 2)}


def _bytes_of(source: Any) -> tuple[bytes, str | None]:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), None
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a path or the bytes of a file are wanted, not {type(source).__name__}")
    from lic.files import read_input

    return read_input(os.fspath(source)), os.fspath(source)


def _as_picture(source: Any, settings: EncodeOptions) -> Picture:
    if isinstance(source, Picture):
        return source
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        data, name = _bytes_of(source)
        return read_picture(data, name=name or "picture", max_pixels=settings.max_pixels)
    if hasattr(source, "__array_interface__"):  # arrays of numpy, images of Pillow
        return _from_array(np.array(source), getattr(source, "mode", None))
    raise TypeError(
        "a path, the bytes of a picture file, an array or a Pillow image is wanted, not "
        + type(source).__name__
    )


def _from_array(pixels: np.ndarray, mode: str | None) -> Picture:
    if mode not in (None, "RGB", "L"):
        raise InputError(f"image has mode {mode}; convert it to RGB or L first")
    if pixels.dtype != np.uint8 or not pixels.size:
        raise InputError(f"an array of uint8 with pixels is wanted, not {pixels.dtype}")
    if pixels.ndim == 2:
        return Picture(np.repeat(pixels[:, :, None], 3, axis=2), grey=True)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise InputError(f"shape (height, width, 3) or (height, width) wanted, not {pixels.shape}")
    return Picture(pixels)


def _with_metadata(picture: Picture, keep: str) -> Picture:
    if keep == "all":
        return picture
    icc = picture.icc if keep == "icc" else None
    return Picture(picture.pixels, picture.grey, icc, None, None)
