"""The container: what is written is read again, and each contradiction has its message."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lic.container import Stream, is_lic, parse_stream, write_stream
from lic.container.fields import LARGEST_NUMBER, Reader, leb128
from lic.container.gain_map import gain_map_shape, parse_gain_map, write_gain_map
from lic.container.stream import TILE_PIXELS, tile_count
from lic.errors import LimitError, StreamError

META = st.none() | st.binary(min_size=1, max_size=40)


@st.composite
def streams(draw) -> Stream:
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    steps = hnp.arrays(np.int8, gain_map_shape(width, height))
    return Stream(
        family=draw(st.integers(1, 4)),
        fingerprint=draw(st.binary(min_size=3, max_size=3)),
        width=width,
        height=height,
        quality=draw(st.integers(0, 255)),
        symbol_check=draw(st.integers(0, 65535)),
        payload=draw(st.binary(max_size=60)),
        grey=draw(st.booleans()),
        icc=draw(META),
        exif=draw(META),
        xmp=draw(META),
        gain_map=draw(st.none() | steps),
    )


@given(streams())
def test_what_is_written_is_read_again(stream):
    assert parse_stream(write_stream(stream)) == stream


@given(st.integers(0, LARGEST_NUMBER))
def test_numbers_have_one_spelling(value):
    data = leb128(value)
    assert Reader(data).leb128("n") == value
    if len(data) < 5:
        longer = data[:-1] + bytes([data[-1] | 0x80, 0])
        with pytest.raises(StreamError, match="shortest"):
            Reader(longer).leb128("n")


@given(st.data())
def test_gain_maps_round_trip(data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    steps = data.draw(hnp.arrays(np.int8, shape))
    assert (parse_gain_map(write_gain_map(steps, shape), shape) == steps).all()


def test_a_flat_gain_map_takes_three_bytes():
    assert len(write_gain_map(np.full((100, 100), -3, np.int8), (100, 100))) == 3


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        (leb128(3) + leb128(0), "runs cover 4 of 6"),
        (leb128(6) + leb128(0), "runs exceed the 6 blocks"),
        (leb128(5) + leb128(256), "exceeds 255"),
        (leb128(LARGEST_NUMBER) + leb128(0), "runs exceed"),
    ],
)
def test_gain_maps_that_do_not_fit_are_refused(runs, text):
    with pytest.raises(StreamError, match=text):
        parse_gain_map(runs, (2, 3))


def large(**changes) -> Stream:
    values = {"family": 1, "fingerprint": b"abc", "width": 3000, "height": 2000, "quality": 1}
    values |= {"symbol_check": 0, "payload": b"123456", "tiles": (1, 1, 1, 1, 1, 1)}
    return Stream(**(values | changes))


def test_large_pictures_carry_a_length_a_tile():
    assert tile_count(3000, 2000) == 6 == -(-3000 // TILE_PIXELS) * -(-2000 // TILE_PIXELS)
    assert parse_stream(write_stream(large())) == large()


@pytest.mark.parametrize("tiles", [None, (1, 5), (1, 1, 1, 1, 1, 2)])
def test_the_writer_refuses_tiles_that_contradict_the_picture(tiles):
    with pytest.raises(ValueError, match="tiles"):
        write_stream(large(tiles=tiles))


def test_limits_hold_before_anything_else_is_looked_at():
    with pytest.raises(LimitError, match="3000 x 2000 pixels exceed --max-pixels 100"):
        parse_stream(write_stream(large()), max_pixels=100)
    assert parse_stream(write_stream(large()), max_pixels=0).width == 3000


def test_magic_is_told_by_four_bytes():
    data = write_stream(large())
    assert is_lic(data[:4])
    assert is_lic(data)
    assert not is_lic(data[:3])
    assert not is_lic(b"\x89PNG")


def test_the_frame_of_a_picture_costs_at_most_20_bytes():
    for width, height in ((127, 127), (16383, 100)):
        stream = large(width=width, height=height, payload=b"", tiles=None)
        assert len(write_stream(stream)) <= 20
