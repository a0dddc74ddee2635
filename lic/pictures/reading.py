"""From the bytes of a picture file to a :class:`Picture`, or a clear refusal."""

from __future__ import annotations

import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lic.errors import InputError, LimitError
from lic.pictures.depth import bits_per_sample
from lic.pictures.metadata import exif_block, xmp_packet
from lic.pictures.picture import DEFAULT_MAX_PIXELS, Picture
from lic.pictures.profiles import fits, is_srgb

__all__ = ["read_picture"]

_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
"""Those with a magic number; Pillow's rarer parsers are not worth their risk."""

_LIC_MAGIC = b"\x89LIC"
_PNG_END = b"IEND\xaeB\x60\x82"
_DEEP_MODES = ("I", "F")
_CONVERTED_MODES = ("RGBX", "YCbCr")
_OPAQUE = 255

# What Pillow's parsers raise on hostile files, beside OSError and SyntaxError as documented.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_pillow_settings = threading.Lock()

# Without any handler logging would print Pillow's complaints to stderr, beside our one line.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_picture(data: bytes, *, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a picture file.

    1-bit, grey, palette and RGB pictures are read; alpha is dropped where it is opaque throughout;
    EXIF orientation is applied; an sRGB profile is dropped, since pictures without one are sRGB.
    Of a JPEG with further pictures behind it (previews, gain maps) the first is read.

    Args:
        data: The whole file.
        name: Stands in error messages.
        max_pixels: Checked against the header before anything is decoded; 0 for no limit.

    Raises:
        InputError: Not a picture, damaged, or of a kind that is not supported: real transparency,
            more than 8 bits, CMYK and other colour models, animation.
        LimitError: Too many pixels.
    """
    if not data:
        raise InputError("is empty", name)
    if data[:4] == _LIC_MAGIC:
        raise InputError("is a .lic file already; use 'lic decode'", name)
    try:
        with _our_limit_only():
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        with image:
            return _decode(image, data, name, max_pixels)
    except UnidentifiedImageError as error:
        raise InputError("is not a picture in a known format", name) from error
    except Image.DecompressionBombError as error:
        raise LimitError("has frames larger than its header says", name) from error
    except _DAMAGE as error:
        raise InputError(f"is damaged: {error}", name) from error


@contextmanager
def _our_limit_only() -> Iterator[None]:
    """Silence Pillow's own size limit and its warnings about odd metadata.

    Both are settings of the process, so threads take turns: slow decoding stays outside.
    """
    with _pillow_settings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _decode(image: Image.Image, data: bytes, name: str, max_pixels: int) -> Picture:
    width, height = image.size
    if max_pixels and width * height > max_pixels:
        raise LimitError(f"{width} x {height} pixels exceed --max-pixels {max_pixels}", name)
    with _our_limit_only():
        _refuse_unsupported(image, data, name)
    # TIFF reads directories of tags while it loads, and warns of odd ones.
    with _our_limit_only() if image.format == "TIFF" else nullcontext():
        image.load()
    with _our_limit_only():
        upright = ImageOps.exif_transpose(image)
        icc = image.info.get("icc_profile")
        exif, xmp = exif_block(upright, image.format or ""), xmp_packet(upright)
        grey, pixels = _pixels(upright, name)
    # A palette is RGB to its profile, whatever its colours are.
    if icc and grey and image.mode == "P" and fits(icc, grey=False) and not is_srgb(icc):
        grey = False
    if icc and (not fits(icc, grey) or is_srgb(icc)):
        icc = None
    return Picture(pixels, grey, icc or None, exif, xmp)


def _refuse_unsupported(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse by the header alone what would be decoded into something else without a word."""
    # JPEG files of cameras hold previews as further pictures; the first is the one meant.
    if image.format not in ("JPEG", "MPO") and getattr(image, "n_frames", 1) > 1:
        raise InputError("is an animation or has several pages; extract one first", name)
    depth = bits_per_sample(image, data)
    if depth > 8 or image.mode.startswith(_DEEP_MODES):
        bits = f"{depth} bits" if depth > 8 else "more than 8 bits"
        raise InputError(
            f"has {bits} a sample (mode {image.mode}); convert it to 8 bits first", name
        )
    # Pillow is content with a PNG file that lacks its last bytes, as long as all rows are there.
    if image.format == "PNG" and _PNG_END not in data:
        raise InputError("is truncated", name)


def _pixels(image: Image.Image, name: str) -> tuple[bool, np.ndarray]:
    """Return whether the picture is grey, and its pixels, uint8 ``(H, W, 3)``."""
    mode = image.mode
    if image.has_transparency_data:
        image = _without_alpha(image, name)
    elif mode == "P" or mode in _CONVERTED_MODES:
        image = image.convert("RGB")
    elif mode == "1":
        image = image.convert("L")
    if image.mode == "L":
        return True, np.repeat(np.array(image)[:, :, None], 3, axis=2)
    if image.mode != "RGB":
        raise InputError(f"has colour mode {mode}; convert it to RGB first", name)
    pixels = np.array(image)
    grey = mode == "P" and bool((pixels == pixels[:, :, :1]).all())
    return grey or mode in ("1", "L", "LA", "La"), pixels


def _without_alpha(image: Image.Image, name: str) -> Image.Image:
    whole = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
    if whole.getchannel("A").getextrema()[0] != _OPAQUE:
        raise InputError(f"has transparency (mode {image.mode}); flatten it first", name)
    return whole.convert("L" if whole.mode == "LA" else "RGB")
