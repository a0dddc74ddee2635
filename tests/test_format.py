"""The worked example of docs/format.md is a real file."""

from __future__ import annotations

import re
from pathlib import Path

from lic.codecs.hyperprior import HyperpriorCodec
from lic.container import parse_stream, write_stream
from lic.weights import find_weights

ROOT = Path(__file__).parent.parent


def example() -> bytes:
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    return bytes.fromhex(re.search(r"```hex\n(.*?)```", text, re.DOTALL).group(1))


def test_example_parses_and_is_written_again():
    stream = parse_stream(example())
    assert (stream.width, stream.height, stream.quality) == (65, 33, 51)
    assert write_stream(stream) == example()


def test_example_decodes():
    weights = find_weights("hyperprior", path=ROOT / "tests" / "weights")
    assert HyperpriorCodec(weights).decode(example()).pixels.shape == (33, 65, 3)
