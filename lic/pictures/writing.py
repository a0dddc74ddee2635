"""From a :class:`Picture` to the bytes of a picture file."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from lic.errors import OutputError, UsageProblem
from lic.pictures.picture import Picture
from lic.pictures.profiles import fits

__all__ = ["format_of_suffix", "write_picture"]

_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "TGA", "QOI")
"""Those that keep size and pixels of any picture; of the others, ICO would shrink it."""

_MISLEADING = {".pbm", ".pfm"}
"""Suffixes of 1-bit and float pictures, which Pillow's PPM writer does not make of ours."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
_WITH_PROFILE_AND_EXIF = {"AVIF", "JPEG", "PNG", "TIFF", "WEBP"}
_WITH_XMP = {"AVIF", "JPEG", "WEBP"}
_TIFF_XMP = 700


def format_of_suffix(path: str) -> str:
    """Return Pillow's name of the format that a suffix stands for; PNG without a suffix.

    Raises:
        UsageProblem: No picture of that kind can be written.
    """
    suffix = Path(path).suffix.lower()
    if not suffix:
        return "PNG"
    Image.init()
    name = Image.EXTENSION.get(suffix)
    if name not in _FORMATS or name not in Image.SAVE or suffix in _MISLEADING:
        raise UsageProblem(f"'{path}': no picture format with suffix '{suffix}' can be written")
    return name


def write_picture(picture: Picture, *, format: str) -> bytes:
    """Encode a picture in a format of Pillow, with the metadata that picture and format can carry.

    PNG, TIFF, WebP, BMP, PPM and JPEG 2000 are written without loss, JPEG and AVIF at quality 95
    without chroma subsampling. GIF keeps 256 colours.

    Args:
        picture: Grey ones become files of one channel, unless their profile is for RGB.
        format: As :func:`format_of_suffix` returns.

    Raises:
        OutputError: The format cannot hold this picture, its size for instance.
    """
    grey = picture.grey and not (picture.icc and fits(picture.icc, grey=False))
    shown = picture.pixels[:, :, 0] if grey else picture.pixels
    settings = _SETTINGS.get(format, {}) | _metadata(picture, format)
    buffer = io.BytesIO()
    try:
        Image.fromarray(shown).save(buffer, format, **settings)
    except (KeyError, OSError, OverflowError, ValueError, struct.error) as error:
        raise OutputError(f"{format} cannot hold this picture: {error}") from error
    return buffer.getvalue()


def _metadata(picture: Picture, format: str) -> dict[str, Any]:
    """Return the metadata as settings of Pillow's writer, which differ from format to format."""
    found: dict[str, Any] = {}
    if format in _WITH_PROFILE_AND_EXIF:
        found = {"icc_profile": picture.icc, "exif": picture.exif}
    if not picture.xmp:
        return {k: v for k, v in found.items() if v}
    if format in _WITH_XMP:
        found["xmp"] = picture.xmp
    elif format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
        found["pnginfo"] = text
    elif format == "TIFF":
        exif = Image.Exif()
        if picture.exif:
            exif.load(picture.exif)
        exif[_TIFF_XMP] = picture.xmp
        found["exif"] = exif
    return {k: v for k, v in found.items() if v}
