"""From a :class:`Picture` to the bytes of a picture file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from lic.errors import OutputError, UsageProblem
from lic.pictures.picture import Picture

__all__ = ["format_of_suffix", "write_picture"]

_SETTINGS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_WITH_METADATA = {"AVIF", "JPEG", "PNG", "TIFF", "WEBP"}
_WITH_XMP = {"AVIF", "JPEG", "WEBP"}


def format_of_suffix(path: str) -> str:
    """Return Pillow's name of the format that a suffix stands for; PNG without a suffix.

    Raises:
        UsageProblem: Pillow cannot write such files.
    """
    suffix = Path(path).suffix.lower()
    if not suffix:
        return "PNG"
    Image.init()
    name = Image.EXTENSION.get(suffix)
    if name is None or name not in Image.SAVE:
        raise UsageProblem(f"'{path}': no picture format with suffix '{suffix}' can be written")
    return name


def write_picture(picture: Picture, *, format: str) -> bytes:
    """Encode a picture in a format of Pillow, with the metadata that the picture carries.

    JPEG and AVIF are written at quality 95 without chroma subsampling, WebP without loss.

    Raises:
        OutputError: The format cannot hold this picture.
    """
    shown = picture.pixels[:, :, 0] if picture.grey else picture.pixels
    settings = dict(_SETTINGS.get(format, {}))
    if format in _WITH_METADATA:
        settings |= {k: v for k, v in (("icc_profile", picture.icc), ("exif", picture.exif)) if v}
    if format in _WITH_XMP and picture.xmp:
        settings["xmp"] = picture.xmp
    buffer = io.BytesIO()
    try:
        Image.fromarray(shown).save(buffer, format, **settings)
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"{format} cannot hold this picture: {error}") from error
    return buffer.getvalue()
