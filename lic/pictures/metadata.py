"""EXIF and XMP of an upright picture: what travels on, without the orientation."""

from __future__ import annotations

import struct

from PIL import Image

__all__ = ["exif_block", "xmp_packet"]

_ORIENTATION = 0x0112

# In TIFF, EXIF shares its directory with the tags that say where the pixels are. Only these go on.
_TIFF_DESCRIBING = {
    0x010E,  # ImageDescription
    0x010F,  # Make
    0x0110,  # Model
    0x011A,  # XResolution
    0x011B,  # YResolution
    0x0128,  # ResolutionUnit
    0x0131,  # Software
    0x0132,  # DateTime
    0x013B,  # Artist
    0x8298,  # Copyright
    0x8769,  # the EXIF directory
    0x8825,  # the GPS directory
}


def exif_block(image: Image.Image, format: str) -> bytes | None:
    """Return the EXIF block that Pillow read, written anew; ``None`` without one.

    A block too damaged to be written again is dropped: the pixels do not depend on it.
    """
    try:
        exif = image.getexif()
        if format == "TIFF":
            for tag in set(exif) - _TIFF_DESCRIBING:
                del exif[tag]
        exif.pop(_ORIENTATION, None)
        return exif.tobytes() if len(exif) else None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        struct.error,
    ):
        return None


def xmp_packet(image: Image.Image) -> bytes | None:
    """Return the XMP packet, UTF-8."""
    xmp = image.info.get("xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return bytes(xmp) if isinstance(xmp, bytes) and xmp else None
