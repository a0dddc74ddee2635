"""The ``.lic`` file: bytes in, named fields out. Knows no torch and no picture.

``docs/format.md`` is the definition. What the payload means is the codec families' business.
"""

from lic.container.header import FAMILIES, MAGIC, VERSION, is_lic
from lic.container.stream import Stream, parse_stream, write_stream

__all__ = ["FAMILIES", "MAGIC", "VERSION", "Stream", "is_lic", "parse_stream", "write_stream"]
