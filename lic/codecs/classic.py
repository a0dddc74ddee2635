"""Classic codecs behind the same interface, through Pillow and its plugins: the anchors.

Files carry no metadata, so that only pixels are compared.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from lic.codecs.base import Codec, Encoded
from lic.errors import InputError, StreamError
from lic.pictures import Picture

__all__ = ["CLASSIC", "PillowCodec"]

Settings = Callable[[float], dict[str, Any]]


class PillowCodec:
    """A format of Pillow with a mapping from quality 0..100 to its own settings.

    Args:
        name: Of the codec.
        format: Pillow's name of the format.
        settings: Quality to arguments of ``Image.save``.
        qualities: A dozen qualities from about 0.08 to 1.6 bits per pixel on photographs.
        plugin: Called before the first use, to register a format; raises ``InputError`` where the
            package is missing.
    """

    def __init__(
        self,
        name: str,
        format: str,
        settings: Settings,
        qualities: tuple[float, ...],
        plugin: Callable[[], None] | None = None,
    ):
        self.name = name
        self.qualities = qualities
        self._format = format
        self._settings = settings
        if plugin is not None:
            plugin()

    def encode(self, picture: Picture, quality: float, **options: Any) -> Encoded:
        """Encode one picture; see :class:`lic.codecs.base.Codec`."""
        shown = picture.pixels[:, :, 0] if picture.grey else picture.pixels
        buffer = io.BytesIO()
        try:
            Image.fromarray(shown).save(buffer, self._format, **self._settings(quality))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.name} cannot encode this picture: {error}") from error
        data = buffer.getvalue()
        shown_back = self.decode(data) if options.get("reconstruct") else None
        return Encoded(data, {"quality": quality}, shown_back)

    def decode(self, data: bytes) -> Picture:
        """Decode one file; see :class:`lic.codecs.base.Codec`."""
        try:
            with Image.open(io.BytesIO(data)) as image:
                grey = image.mode == "L"
                return Picture(np.array(image.convert("RGB")), grey)
        except (OSError, ValueError, SyntaxError) as error:
            raise StreamError(f"{self.name} cannot decode this file: {error}") from error

    def encode_many(
        self, pictures: Iterable[Picture], quality: float, **options: Any
    ) -> Iterator[Encoded]:
        """Encode pictures in order."""
        return (self.encode(p, quality, **options) for p in pictures)

    def decode_many(self, files: Iterable[bytes]) -> Iterator[Picture]:
        """Decode files in order."""
        return map(self.decode, files)


def _whole(quality: float, least: int = 0) -> int:
    return max(least, min(100, round(quality)))


def _jpeg(progressive: bool) -> Settings:
    return lambda q: {
        "quality": _whole(q, 1),
        "subsampling": "4:2:0",
        "optimize": True,
        "progressive": progressive,
    }


def _avif(subsampling: str, tune: str | None) -> Settings:
    def settings(quality: float) -> dict[str, Any]:
        values: dict[str, Any] = {"quality": _whole(quality), "subsampling": subsampling}
        values |= {"speed": 6, "max_threads": 1}
        return values | ({"advanced": {"tune": tune}} if tune else {})

    return settings


def _jpeg2000(quality: float) -> dict[str, Any]:
    # PSNR layers from 22 to 47 dB: OpenJPEG has no quality of its own.
    layer = 22 + 0.25 * quality
    return {"quality_mode": "dB", "quality_layers": [layer], "irreversible": True, "mct": 1}


def _jxl_plugin() -> None:
    try:
        import pillow_jxl  # noqa: F401
    except ImportError as error:
        raise InputError("jxl needs pillow-jxl-plugin: pip install 'lic[jxl]'") from error


def _heic_plugin() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise InputError("heic needs pillow-heif: pip install 'lic[heic]'") from error
    register_heif_opener()


_JPEG_QUALITIES = (4, 6, 8, 12, 18, 26, 36, 48, 60, 70, 78, 84, 88)
_AVIF_QUALITIES = (16, 22, 28, 34, 40, 46, 52, 58, 64, 70, 76, 80)

CLASSIC: dict[str, Callable[[], Codec]] = {
    "jpeg": lambda: PillowCodec("jpeg", "JPEG", _jpeg(False), _JPEG_QUALITIES),
    "jpeg-progressive": lambda: PillowCodec(
        "jpeg-progressive", "JPEG", _jpeg(True), _JPEG_QUALITIES
    ),
    "webp": lambda: PillowCodec(
        "webp",
        "WEBP",
        lambda q: {"quality": _whole(q), "method": 6},
        (0, 3, 7, 14, 24, 36, 48, 60, 70, 78, 84, 88),
    ),
    "avif": lambda: PillowCodec("avif", "AVIF", _avif("4:2:0", None), _AVIF_QUALITIES),
    "avif-444": lambda: PillowCodec("avif-444", "AVIF", _avif("4:4:4", "psnr"), _AVIF_QUALITIES),
    "jpeg2000": lambda: PillowCodec(
        "jpeg2000", "JPEG2000", _jpeg2000, (8, 14, 20, 26, 32, 38, 44, 50, 56, 62, 66)
    ),
    "jxl": lambda: PillowCodec(
        "jxl",
        "JXL",
        lambda q: {"quality": _whole(q), "effort": 7},
        (5, 10, 16, 24, 32, 42, 52, 62, 72, 80, 86, 90),
        _jxl_plugin,
    ),
    "heic": lambda: PillowCodec(
        "heic",
        "HEIF",
        lambda q: {"quality": _whole(q)},
        (6, 12, 18, 24, 30, 36, 42, 48, 54, 60, 66, 72),
        _heic_plugin,
    ),
}
"""Makers of the classic codecs by name."""
