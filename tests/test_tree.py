"""The tree coder of index grids: exact round trips, damage noticed, learning that pays."""

from __future__ import annotations

import numpy as np
import pytest

from lic.coding import bit_coder
from lic.coding.bit_coder import BitDecoder, BitEncoder
from lic.coding.mixing import TreeStart
from lic.coding.range_coder import backend
from lic.coding.tree import decode_tree, encode_tree, learn_start, tree_bits
from lic.errors import StreamError, WeightsError

EMPTY = TreeStart.empty()


def smooth_grid(height: int, width: int, bits: int, seed: int = 0) -> np.ndarray:
    """Return indices whose first bits resemble those of their neighbours."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = sum(np.sin(x * f + y * g) for f, g in random.uniform(-0.3, 0.3, (4, 2)))
    waves = (waves + 4) / 8 * 2**bits + random.normal(0, 2 ** (bits - 5), waves.shape)
    return np.clip(waves, 0, 2**bits - 1).astype(np.int64)


@pytest.mark.parametrize("bits", [1, 3, 8, 14])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 3), (12, 20), (20, 12)])
def test_any_grid_round_trips(shape, bits):
    indices = np.random.default_rng(bits).integers(0, 2**bits, shape)
    data = encode_tree(indices, bits, EMPTY)
    assert np.array_equal(decode_tree(data, shape, bits, EMPTY), indices)


@pytest.mark.parametrize("settings", [{"contexts": 1, "learning": False}, {"contexts": 1}])
def test_simpler_coders_round_trip(settings):
    indices = smooth_grid(9, 13, 6)
    data = encode_tree(indices, 6, EMPTY, **settings)
    assert np.array_equal(decode_tree(data, (9, 13), 6, EMPTY, **settings), indices)


def test_the_payload_is_known():
    # A decoder on another machine or of a later release has to read these very bytes.
    data = encode_tree(smooth_grid(4, 6, 5), 5, EMPTY)
    assert data.hex() == "3aa6db7b953259d55b7eee66"


def test_both_coders_write_the_same_words():
    random = np.random.default_rng(1)
    ones = random.integers(1, 65536, 500)
    bits = (random.random(500) < ones / 65536).astype(int)
    payloads = []
    for name in ("constriction", "reference"):
        encoder = BitEncoder(backend(name))
        encoder.encode(bits[:200], ones[:200])
        encoder.encode(bits[200:], ones[200:])
        payloads.append(encoder.finish())
        decoder = BitDecoder(payloads[-1], backend(name))
        found = [decoder.decode(ones[i : i + 50]) for i in range(0, 500, 50)]
        decoder.finish()
        assert np.array_equal(np.concatenate(found), bits)
    assert payloads[0] == payloads[1]


def test_estimated_bits_are_those_of_the_payload():
    indices = smooth_grid(24, 36, 8)
    estimate = tree_bits(indices, 8, EMPTY)
    assert abs(8 * len(encode_tree(indices, 8, EMPTY)) - estimate) < 0.002 * estimate + 16


def test_contexts_and_learning_pay():
    indices = smooth_grid(24, 36, 8)
    order0 = tree_bits(indices, 8, EMPTY, contexts=1)
    assert tree_bits(indices, 8, EMPTY) < 0.9 * order0


def test_a_learned_start_pays_and_stays_exact():
    grids = [(np.stack([smooth_grid(12, 18, 7, s) for s in range(10)]), 7)]
    start = learn_start(grids, most=32)
    indices = smooth_grid(12, 18, 7, seed=99)
    data = encode_tree(indices, 7, start)
    assert len(data) < 0.9 * len(encode_tree(indices, 7, EMPTY))
    assert np.array_equal(decode_tree(data, (12, 18), 7, start), indices)


@pytest.mark.parametrize("change", ["cut", "longer", "flip"])
def test_damage_is_noticed(change):
    indices = smooth_grid(12, 18, 7)
    data = encode_tree(indices, 7, EMPTY)
    damaged = {
        "cut": data[:-1],
        "longer": data + b"\1",
        "flip": data[:5] + bytes([data[5] ^ 16]) + data[6:],
    }[change]
    # What still decodes is another grid; then the file's checksums tell.
    try:
        assert not np.array_equal(decode_tree(damaged, (12, 18), 7, EMPTY), indices)
    except StreamError:
        return
    assert change != "longer"


def test_counts_far_beyond_their_limit_stay_exact():
    indices = np.zeros((40, 60), np.int64)
    data = encode_tree(indices, 10, EMPTY)
    assert len(data) < 60
    assert np.array_equal(decode_tree(data, (40, 60), 10, EMPTY), indices)


def test_indices_outside_the_codebook_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="outside"):
        encode_tree(np.array([[8]]), 3, EMPTY)


def test_a_start_of_the_wrong_form_is_refused():
    with pytest.raises(WeightsError, match="counts"):
        TreeStart(np.zeros((1, 2), np.uint8), EMPTY.weights)


def test_no_bits_are_no_bytes():
    assert BitEncoder().finish() == b""
    decoder = bit_coder.BitDecoder(b"")
    decoder.finish()
