"""Orders of positions and the coder of scattered indices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lic.coding.mixing import DENSITIES, TreeStart
from lic.coding.order import r2_order
from lic.coding.scatter import (
    decode_scattered,
    encode_scattered,
    learn_scattered,
    scattered_bits,
)
from lic.errors import StreamError

EMPTY = TreeStart.empty()


def slow_order(height: int, width: int) -> list[int]:
    """Return the R2 order with whole integers, one position after the other."""
    x = y = 1 << 63
    found: dict[int, None] = {}
    while len(found) < height * width:
        found[(y * height >> 64) * width + (x * width >> 64)] = None
        x = (x + 0xC13FA9A902A6328F) % 2**64
        y = (y + 0x91E10DA5C79E7B1D) % 2**64
    return list(found)


def packet(bits: int = 6, count: int = 5, shape: tuple[int, int] = (18, 25)):
    """Return indices of a smooth grid in one of ``count`` packets, and their places."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    grid = ((np.sin(x / 5) + np.cos(y / 4) + 2) / 4 * (2**bits - 1)).astype(np.int64)
    places = r2_order(*shape)[: grid.size // count]
    return grid.ravel()[places], places, shape, bits


def test_the_order_begins_as_written_down():
    order = r2_order(32, 48)
    assert [divmod(int(p), 48) for p in order[:6]] == [
        (16, 24),
        (2, 12),
        (20, 0),
        (6, 36),
        (24, 24),
        (11, 13),
    ]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (7, 5), (32, 48), (61, 3)])
def test_the_order_is_that_of_whole_integers(shape):
    assert r2_order(*shape).tolist() == slow_order(*shape)


@pytest.mark.parametrize("bits", [1, 3, 10, 14])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 200])
def test_any_packet_round_trips(bits, count):
    random = np.random.default_rng(count)
    places = random.permutation(300)[:count]
    indices = random.integers(0, 2**bits, count)
    data = encode_scattered(indices, places, (15, 20), bits, EMPTY)
    assert np.array_equal(decode_scattered(data, places, (15, 20), bits, EMPTY), indices)


def test_the_payload_is_known():
    indices, places, shape, bits = packet(count=30)
    assert (
        encode_scattered(indices, places, shape, bits, EMPTY).hex() == "f8c2b38118d82392966321f7c6"
    )


def test_learning_pays_and_is_exact():
    examples = [packet(count=n) for n in (4, 5, 7, 9)] * 5
    weights = learn_scattered(examples, EMPTY).reshape(DENSITIES, *EMPTY.weights.shape)
    learned = replace(EMPTY, scattered=weights)
    before, after = (scattered_bits(*packet(count=6), s) for s in (EMPTY, learned))
    assert after < 0.98 * before
    indices, places, shape, bits = packet(count=6)
    data = encode_scattered(indices, places, shape, bits, learned)
    assert abs(8 * len(data) - after) < 16
    assert np.array_equal(decode_scattered(data, places, shape, bits, learned), indices)


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\1"])
def test_a_payload_of_another_length_is_refused(change):
    indices, places, shape, bits = packet()
    data = encode_scattered(indices, places, shape, bits, EMPTY)
    with pytest.raises(StreamError):
        decode_scattered(change(data), places, shape, bits, EMPTY)
