"""Pictures in memory, and reading and writing them in common formats. Knows no torch."""

from lic.pictures.picture import DEFAULT_MAX_PIXELS, PICTURE_SUFFIXES, Picture, pad_to_multiple
from lic.pictures.reading import read_picture
from lic.pictures.writing import format_of_suffix, write_picture

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "PICTURE_SUFFIXES",
    "Picture",
    "format_of_suffix",
    "pad_to_multiple",
    "read_picture",
    "write_picture",
]
