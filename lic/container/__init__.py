"""The ``.lic`` file and packet streams: bytes in, named fields out. Knows no torch, no picture.

``docs/format.md`` is the definition. What the payload means is the codec families' business.
"""

from lic.container.header import FAMILIES, INDEX_CODERS, MAGIC, VERSION, is_lic
from lic.container.packets import is_packets
from lic.container.stream import Stream, parse_stream, write_stream

__all__ = [
    "FAMILIES",
    "INDEX_CODERS",
    "MAGIC",
    "VERSION",
    "Stream",
    "is_lic",
    "is_packets",
    "parse_stream",
    "write_stream",
]
