"""The ``.lic`` file: bytes in, named fields out. Knows no torch and no picture."""

from lic.container.header import FAMILIES, MAGIC, VERSION, is_lic
from lic.container.stream import Stream, parse_stream, write_stream

__all__ = ["FAMILIES", "MAGIC", "VERSION", "Stream", "is_lic", "parse_stream", "write_stream"]
