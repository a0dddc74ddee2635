"""From the bytes of a picture file to a :class:`Picture`, or a clear refusal."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from lic.errors import InputError, LimitError
from lic.pictures.picture import DEFAULT_MAX_PIXELS, Picture

__all__ = ["read_picture"]

_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")
_LIC_MAGIC = b"\x89LIC"
_GREY_MODES = {"1", "L"}
_ALPHA_MODES = {"RGBA", "LA", "PA", "RGBa", "La"}
_ORIENTATION = 0x0112


def read_picture(data: bytes, *, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Decode a picture file.

    1-bit, grey, palette and RGB pictures are read; EXIF orientation is applied; an sRGB profile is
    dropped, since pictures without one are sRGB.

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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit speaks, and odd metadata is no error
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return _convert(image, name, max_pixels)
    except Image.UnidentifiedImageError as error:
        raise InputError("is not a picture in a known format", name) from error
    except Image.DecompressionBombError as error:
        raise LimitError("more pixels than Pillow opens", name) from error
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError) as error:
        raise InputError(f"is damaged: {error}", name) from error


def _convert(image: Image.Image, name: str, max_pixels: int) -> Picture:
    width, height = image.size
    if max_pixels and width * height > max_pixels:
        raise LimitError(f"{width} x {height} pixels exceed --max-pixels {max_pixels}", name)
    if getattr(image, "n_frames", 1) > 1:
        raise InputError("is an animation or has several pages; extract one first", name)
    if any("16" in str(tile[3]) for tile in image.tile):
        # Pillow would cut 16-bit RGB to 8 bits without a word; the raw mode tells before loading.
        raise InputError("has 16 bits a sample; convert it to 8 bits first", name)
    icc, exif, xmp = image.info.get("icc_profile"), image.getexif(), _xmp(image)
    image.load()
    upright = ImageOps.exif_transpose(image)
    grey, pixels = _pixels(upright, name)
    exif.pop(_ORIENTATION, None)
    block = exif.tobytes() if len(exif) else None
    return Picture(pixels, grey, None if _is_srgb(icc) else icc, block, xmp)


def _pixels(image: Image.Image, name: str) -> tuple[bool, np.ndarray]:
    mode = image.mode
    if mode == "P" or (mode in ("RGB", "L", "1") and "transparency" in image.info):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        grey = mode in _GREY_MODES
    else:
        grey = mode in _GREY_MODES or mode == "LA"
    if image.mode in _ALPHA_MODES:
        image = _without_alpha(image, mode, name)
    if image.mode in ("1", "L"):
        image = image.convert("L")
    elif image.mode != "RGB":
        raise InputError(f"has mode {mode}, {_way_out(mode)}", name)
    pixels = np.array(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    if mode == "P":
        grey = bool((pixels == pixels[:, :, :1]).all())
    return grey, np.ascontiguousarray(pixels)


def _without_alpha(image: Image.Image, mode: str, name: str) -> Image.Image:
    alpha: Any = image.getchannel("A").getextrema()
    if alpha[0] < 255:
        raise InputError(
            f"has transparency (mode {mode}), which is not supported; flatten it first",
            name,
        )
    return image.convert("L" if image.mode in ("LA", "La") else "RGB")


def _way_out(mode: str) -> str:
    if mode.startswith(("I", "F")):
        return "more than 8 bits a sample; convert it to 8 bits first"
    return "which is not supported; convert it to RGB first"


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp")
    return xmp.encode() if isinstance(xmp, str) else xmp


def _is_srgb(icc: bytes | None) -> bool:
    """Tell by the profile's description, which every writer of sRGB profiles fills in."""
    if not icc:
        return False
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        return "srgb" in ImageCms.getProfileDescription(profile).lower()
    except (ImportError, OSError, ValueError):
        return b"sRGB" in icc
