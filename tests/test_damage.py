"""No damaged or hostile file gives a picture in silence: every family through the same attacks.

Numbers in comments are those of the project's list of reliability tests.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FAMILIES, photo, tiny_codec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lic import api
from lic.container import MAGIC, parse_stream, write_stream
from lic.container.envelope import seal
from lic.container.header import HEADER_FIELDS
from lic.errors import LicError, LimitError, StreamError, WeightsError
from lic.pictures import Picture

WEIGHTS = Path(__file__).parent / "weights"
QUIET = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module", params=FAMILIES)
def codec(request):
    return tiny_codec(request.param)


@pytest.fixture(scope="module", params=[(64, 64), (33, 65)])
def data(request, codec) -> bytes:
    return codec.encode(Picture(photo(*request.param)), 5).data


def info_code(data: bytes) -> int:
    try:
        api.read_info(data)
    except LicError as error:
        return error.exit_code
    return 0


def test_every_flipped_bit_is_noticed(codec, data):  # 1, 35
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            codec.decode(bytes(damaged))
        assert info_code(bytes(damaged)) == 4


def test_every_truncation_is_noticed(codec, data):  # 2, 35
    for length in range(len(data)):
        with pytest.raises(StreamError):
            codec.decode(data[:length])
        assert info_code(data[:length]) == 4
    with pytest.raises(StreamError, match="is empty"):
        codec.decode(b"")


@pytest.mark.parametrize("extra", [1, 17, 1000])
def test_bytes_after_the_end_are_counted(codec, data, extra):  # 3, 35
    tail = np.random.default_rng(extra).integers(0, 256, extra).astype(np.uint8).tobytes()
    with pytest.raises(StreamError, match=f"{extra} byte"):
        codec.decode(data + tail)
    assert info_code(data + tail) == 4


def test_a_file_behind_a_file_is_noticed(codec, data):  # 3
    with pytest.raises(StreamError, match=f"{len(data)} bytes after the end"):
        codec.decode(data + data)


@QUIET
@given(rest=st.binary(max_size=400), sealed=st.booleans())
def test_random_bytes_behind_the_magic_end_in_our_errors(codec, rest, sealed):  # 4, 35
    raw = seal(MAGIC + rest) if sealed else MAGIC + rest
    with pytest.raises(LicError):
        codec.decode(raw)
    assert info_code(raw) in (0, 4, 5)


@QUIET
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 6),
)
def test_a_hostile_writer_gets_an_error_or_an_intact_picture(codec, data, changes, cut):  # 5
    body = bytearray(data[:-4])
    for position, value in changes:
        body[4 + position % (len(body) - 4)] = value
    raw = seal(bytes(body[: len(body) - cut]))
    try:
        shown = api.decode(raw, weights=WEIGHTS, max_pixels=1 << 16)
    except (StreamError, LimitError, WeightsError):
        return
    stream = parse_stream(raw)
    assert shown.pixels.shape == (stream.height, stream.width, 3)


def with_header(data: bytes, **values: object) -> bytes:
    """Spell header fields anew, also with values that the writer refuses, and seal the file."""
    stream = parse_stream(data)
    parts = [MAGIC]
    for field in HEADER_FIELDS:
        now = [values.get(n, getattr(stream, n, 0)) for n in field.names]
        parts.append(field.spell(*now))
    return seal(b"".join(parts) + stream.payload)


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"width": 0}, StreamError, "width is 0"),  # 6
        ({"height": 0}, StreamError, "height is 0"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, LimitError, "exceed --max-pixels 178956970"),
        ({"width": 400_000, "height": 400_000}, LimitError, "400000 x 400000 pixels"),
        ({"width": 4000, "height": 4000}, StreamError, "tiles: missing"),  # 7
        ({"version": 1}, StreamError, "format version 1; this lic reads up to 0"),  # 8
        ({"family": 15}, StreamError, "unknown family 15"),
        ({"flags": 64}, StreamError, "unknown flags 0x40"),
        ({"flags": 4}, StreamError, "section"),
    ],
)
def test_wrong_headers_are_explained(codec, data, values, error, text):
    raw = with_header(data, **values)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(error, match=text):
        api.decode(raw, weights=WEIGHTS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert info_code(raw) == error.exit_code


def with_section(data: bytes, kind: int, content: bytes) -> bytes:
    plain = parse_stream(data)
    head = write_stream(replace(plain, payload=b"", icc=b"x"))
    # The header up to the sections of a file with one section of one byte: type, length, x, end.
    start = head[: -4 - len(b"\x02\x01x\x00")]
    section = bytes([kind, len(content)]) + content + b"\0"
    return seal(start + section + plain.payload)


def test_an_unknown_optional_section_is_skipped(codec, data):  # 9
    raw = with_section(data, 200, b"later")
    assert codec.decode(raw) == codec.decode(data)
    assert api.read_info(raw)["skipped_sections"] == [200]


def test_an_unknown_required_section_is_refused(codec, data):  # 8
    with pytest.raises(StreamError, match="required section 201"):
        codec.decode(with_section(data, 201, b"later"))


def test_files_of_other_weights_are_refused_before_decoding(data):  # 11
    stream = parse_stream(data)
    raw = write_stream(replace(stream, fingerprint=b"\1\2\3"))
    with pytest.raises(WeightsError, match="fingerprint 010203"):
        api.decode(raw, weights=WEIGHTS)


def test_a_hostile_payload_with_a_correct_checksum_is_noticed(codec, data):  # 5
    stream = parse_stream(data)
    random = np.random.default_rng(3)
    for _ in range(50):
        payload = random.integers(0, 256, random.integers(0, 400)).astype(np.uint8).tobytes()
        with pytest.raises(StreamError):
            codec.decode(write_stream(replace(stream, payload=payload)))


def test_a_wrong_symbol_check_is_noticed(codec, data):
    stream = parse_stream(data)
    wrong = replace(stream, symbol_check=stream.symbol_check ^ 1)
    with pytest.raises(StreamError, match="symbols differ"):
        codec.decode(write_stream(wrong))


def test_hostile_files_kill_no_process(data, tmp_path):  # 5, 34: a signal would show here
    random = np.random.default_rng(5)
    for number in range(200):
        body = bytearray(data[:-4])
        for _ in range(random.integers(1, 6)):
            body[random.integers(4, len(body))] = random.integers(0, 256)
        (tmp_path / f"{number}.lic").write_bytes(seal(bytes(body)))
    code = (
        "import sys\nfrom pathlib import Path\nfrom lic import api\n"
        "from lic.errors import LicError\n"
        "for file in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try:\n"
        "        api.decode(file, weights=sys.argv[2], max_pixels=65536)\n"
        "    except LicError as error:\n"
        "        assert error.exit_code in (4, 5, 6), error\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(WEIGHTS)]
    limit = 4 << 30

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(command, capture_output=True, timeout=60, preexec_fn=bounded)
    assert done.returncode == 0, done.stderr.decode()
