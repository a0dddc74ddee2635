"""Classic codecs behind the same interface, through Pillow and its plugins: the anchors.

Files carry no metadata, so that only pixels are compared, and one thread makes them, so that
seconds compare too. Quality 0..100, rounded to whole numbers except for ``jpeg2000``, becomes

- ``jpeg``: libjpeg's own quality, at least 1; 4:2:0, optimised Huffman tables;
- ``jpeg-progressive``: the same, progressive;
- ``webp``: libwebp's own quality, lossy, method 6;
- ``avif``: libavif's own quality; aom, 4:2:0, speed 6, tuned as libavif does by default;
- ``avif-iq``: the same, tuned for what people see; libavif's default from 1.4 on;
- ``avif-444``: the same with 4:4:4, tuned for PSNR;
- ``jpeg2000``: a compression ratio falling evenly on a log scale from 600 to 3, which for RGB is
  0.04 to 8 bits per pixel; one layer, 9/7 wavelet;
- ``jxl``: libjxl's quality, which stands for a Butteraugli distance; effort 7, its default;
- ``heic``: libheif's own quality; x265, 4:2:0.
"""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from lic.codecs.base import Codec, Encoded
from lic.errors import InputError, StreamError
from lic.pictures import Picture

__all__ = ["CLASSIC", "Format", "PillowCodec"]

# A decoder is free to fail in its own way; each of these has been seen for a damaged file.
_DAMAGED = (OSError, ValueError, SyntaxError, RuntimeError, EOFError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Format:
    """How one codec name uses a format of Pillow.

    Attributes:
        name: Of the codec.
        pillow: Pillow's name of the format.
        settings: Quality to arguments of ``Image.save``; monotone in rate.
        qualities: A dozen from about 0.08 to 1.6 bits per pixel on photographs, as far down as
            the format goes.
        library: Name of the library in ``PIL.features``, or of the plugin's package.
        plugin: Registers the format; raises ``InputError`` where its package is missing.
        check: Raises ``InputError`` where the library is too old for the settings.
    """

    name: str
    pillow: str
    settings: Callable[[float], dict[str, Any]]
    qualities: tuple[float, ...]
    library: str
    plugin: Callable[[], None] | None = None
    check: Callable[[], None] | None = None

    def version(self) -> str:
        """Return library and version."""
        if self.plugin:
            return f"{self.library} {importlib.metadata.version(self.library)}"
        pillow = importlib.metadata.version("pillow")
        return f"pillow {pillow} {self.library} {features.version(self.library)}"


class PillowCodec:
    """A codec that Pillow or one of its plugins brings.

    Raises:
        InputError: The plugin is not installed, this Pillow was built without the format, or its
            library is too old for the settings.
    """

    def __init__(self, form: Format):
        self.name = form.name
        self.default_qualities = form.qualities
        self._form = form
        if form.plugin:
            form.plugin()
        Image.init()
        if form.pillow not in Image.SAVE:
            raise InputError(f"this Pillow has no {form.pillow}; its wheels have")
        if form.check:
            form.check()

    @property
    def identity(self) -> str:
        """Everything that the files of this codec depend on, in one line."""
        return f"{self._form.version()} {self._form.settings(50)}"

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture; see :class:`lic.codecs.base.Codec`."""
        shown = picture.pixels[:, :, 0] if picture.grey else picture.pixels
        settings = self._form.settings(min(100.0, max(0.0, quality)))
        buffer = io.BytesIO()
        try:
            Image.fromarray(np.ascontiguousarray(shown)).save(buffer, self._form.pillow, **settings)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.name} cannot encode this picture: {error}") from error
        data = buffer.getvalue()
        reconstruction = self.decode(data) if options.get("reconstruct") else None
        return Encoded(data, {"settings": repr(settings)}, reconstruction)

    def decode(self, data: bytes) -> Picture:
        """Decode one file; see :class:`lic.codecs.base.Codec`."""
        try:
            with Image.open(io.BytesIO(data), formats=[self._form.pillow]) as image:
                return Picture(np.array(image.convert("RGB")), image.mode == "L")
        except UnidentifiedImageError as error:
            raise StreamError(f"is no {self._form.pillow} file") from error
        except _DAMAGED as error:
            raise StreamError(f"{self.name} cannot decode this file: {error}") from error

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode pictures in order."""
        return (self.encode(p, quality, **options) for p in pictures)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode files in order."""
        return map(self.decode, files)


def _jpeg(quality: float) -> dict[str, Any]:
    return {"quality": max(1, round(quality)), "subsampling": "4:2:0", "optimize": True}


def _jpeg_progressive(quality: float) -> dict[str, Any]:
    return _jpeg(quality) | {"progressive": True}


def _webp(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "method": 6}


def _avif(quality: float) -> dict[str, Any]:
    values = {"quality": round(quality), "subsampling": "4:2:0", "speed": 6}
    return values | {"codec": "aom", "max_threads": 1}


def _avif_iq(quality: float) -> dict[str, Any]:
    return _avif(quality) | {"advanced": {"tune": "iq"}}


def _has_avif_iq() -> None:
    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), "AVIF", **_avif_iq(50))
    except (OSError, ValueError, RuntimeError) as error:
        version = features.version("avif")
        raise InputError(
            f"avif-iq needs a libavif whose aom has tune=iq (aom 3.12); this is libavif {version}"
        ) from error


def _avif_444(quality: float) -> dict[str, Any]:
    return _avif(quality) | {"subsampling": "4:4:4", "advanced": {"tune": "psnr"}}


def _jpeg2000(quality: float) -> dict[str, Any]:
    # OpenJPEG can aim at a PSNR too; but equal PSNR for every picture gives most bits to the
    # hardest ones, and the mean over a set then says little. Published curves fix the ratio.
    ratio = _LARGEST_RATIO * (_SMALLEST_RATIO / _LARGEST_RATIO) ** (quality / 100)
    return {"quality_mode": "rates", "quality_layers": [ratio]} | _WAVELET


def _jxl(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "effort": 7, "num_threads": 1}


def _heic(quality: float) -> dict[str, Any]:
    return {"quality": round(quality), "chroma": 420, "enc_params": {"x265:pools": "1"}}


def _jxl_plugin() -> None:
    try:
        from pillow_jxl import JpegXLImagePlugin
    except ImportError as error:
        raise InputError("jxl needs pillow-jxl-plugin: pip install 'lic[jxl]'") from error
    JpegXLImagePlugin.DECODE_THREADS = 1


def _heic_plugin() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise InputError("heic needs pillow-heif: pip install 'lic[heic]'") from error
    register_heif_opener(decode_threads=1)


_LARGEST_RATIO, _SMALLEST_RATIO = 600.0, 3.0
_WAVELET = {"irreversible": True, "mct": 1}

_JPEG_QUALITIES = (4, 6, 8, 12, 18, 26, 36, 48, 60, 70, 78, 84, 88)
_WEBP_QUALITIES = (0, 3, 7, 14, 24, 36, 48, 60, 70, 78, 84, 88, 90)
_AVIF_QUALITIES = (6, 12, 18, 24, 30, 36, 42, 48, 54, 60, 66, 72, 78, 84)
_AVIF_444_QUALITIES = (5, 10, 16, 22, 28, 34, 40, 46, 52, 58, 64, 70, 75, 80)
_JPEG2000_QUALITIES = (13, 18, 23, 28, 33, 38, 43, 48, 53, 58, 63, 68, 72)
_JXL_QUALITIES = (0, 6, 12, 18, 24, 32, 42, 52, 62, 72, 80, 86, 90)
_HEIC_QUALITIES = (10, 14, 18, 22, 26, 30, 34, 38, 42, 46, 50, 54, 58)

_FORMATS = (
    Format("jpeg", "JPEG", _jpeg, _JPEG_QUALITIES, "jpg"),
    Format("jpeg-progressive", "JPEG", _jpeg_progressive, _JPEG_QUALITIES, "jpg"),
    Format("webp", "WEBP", _webp, _WEBP_QUALITIES, "webp"),
    Format("avif", "AVIF", _avif, _AVIF_QUALITIES, "avif"),
    Format("avif-iq", "AVIF", _avif_iq, _AVIF_QUALITIES, "avif", check=_has_avif_iq),
    Format("avif-444", "AVIF", _avif_444, _AVIF_444_QUALITIES, "avif"),
    Format("jpeg2000", "JPEG2000", _jpeg2000, _JPEG2000_QUALITIES, "jpg_2000"),
    Format("jxl", "JXL", _jxl, _JXL_QUALITIES, "pillow-jxl-plugin", _jxl_plugin),
    Format("heic", "HEIF", _heic, _HEIC_QUALITIES, "pillow-heif", _heic_plugin),
)


def _maker(form: Format) -> Callable[[], Codec]:
    return lambda: PillowCodec(form)


CLASSIC: dict[str, Callable[[], Codec]] = {form.name: _maker(form) for form in _FORMATS}
"""Makers of the classic codecs by name."""
