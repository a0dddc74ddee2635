"""Tables, escapes, both range coders, and the checksum of symbols."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lic.coding import golomb, range_coder, reference_coder
from lic.coding.range_coder import LARGEST_SYMBOL, RangeDecoder, RangeEncoder, backend
from lic.coding.symbols import estimated_bits, symbol_check
from lic.coding.tables import ProbabilityTables, bits, gaussian_tables, tables_from_histograms
from lic.errors import StreamError, WeightsError

REFERENCE = backend("reference")
try:
    CODERS = [backend("constriction"), REFERENCE]
except ImportError:
    CODERS = [REFERENCE]
both_coders = pytest.mark.parametrize("coder", CODERS, ids=lambda coder: coder.name)
needs_constriction = pytest.mark.skipif(len(CODERS) < 2, reason="constriction is not installed")

TABLES = gaussian_tables()
SCALES = 0.11 * np.exp(np.arange(64) / 8)
TINY = ProbabilityTables(
    np.array([[65535, 1, 0, 0], [1, 65533, 1, 1], [21845, 21845, 21845, 1], [1, 65535, 0, 0]]),
    np.array([0, 1, 1, 0]),
)

KNOWN_WORDS = ["36e0614c", "7d52a79d", "1f4b8d6f", "b4f88e6a"]
KNOWN_PAYLOAD = "e7c2fbffb79b52774f0e31"


def gaussian_symbols(count: int, seed: int, most_tables: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Draw symbols that follow their tables, small scales more often than large ones."""
    generator = np.random.default_rng(seed)
    indexes = np.minimum(generator.geometric(0.08, count) - 1, most_tables - 1)
    symbols = np.rint(generator.normal(size=count) * SCALES[indexes]).astype(np.int32)
    return symbols, indexes


def encoded(calls, tables=TABLES, coder=None) -> bytes:
    encoder = RangeEncoder(tables, coder)
    for symbols, indexes in calls:
        encoder.encode(symbols, indexes)
    return encoder.finish()


def decoded(data: bytes, index_calls, tables=TABLES, coder=None) -> list[np.ndarray]:
    decoder = RangeDecoder(data, tables, coder)
    symbols = [decoder.decode(indexes) for indexes in index_calls]
    decoder.finish()
    return symbols


@st.composite
def symbol_calls(draw, n_tables: int, largest: int = LARGEST_SYMBOL):
    """Draw up to four calls: mostly small symbols, some escapes, any tables."""
    symbol = st.integers(-2, 2) | st.integers(-40, 40) | st.integers(-largest, largest)
    pair = st.tuples(symbol, st.integers(0, n_tables - 1))
    calls = draw(st.lists(st.lists(pair, max_size=25), max_size=4))
    return [
        (np.array([s for s, _ in call], np.int32), np.array([i for _, i in call], np.int64))
        for call in calls
    ]


# Tables


def gaussian_masses(number: int, symbols: np.ndarray) -> np.ndarray:
    deviation = SCALES[number] * math.sqrt(2)
    above = [math.erfc((abs(s) - 0.5) / deviation) / 2 for s in symbols.tolist()]
    beyond = [math.erfc((abs(s) + 0.5) / deviation) / 2 for s in symbols.tolist()]
    return np.array(above) - np.array(beyond)


@pytest.mark.parametrize("number", [0, 5, 20, 40, 50, 63])
def test_gaussian_tables_are_symmetric_and_close_to_the_gaussian(number):
    inner, half_width = TABLES.row(number)[:-1], int(TABLES.half_widths[number])
    assert np.array_equal(inner, inner[::-1])
    masses = gaussian_masses(number, np.arange(-half_width, half_width + 1))
    assert np.abs(inner - 65536 * masses).max() < 2 + 0.006 * inner.max()


@pytest.mark.parametrize("number", [0, 8, 16, 24, 32, 40, 48, 56])
def test_gaussian_tables_cost_hardly_more_than_the_entropy(number):
    reach = math.ceil(6 * SCALES[number]) + 1
    symbols = np.arange(-reach, reach + 1)
    masses = gaussian_masses(number, symbols)
    entropy = -(masses * np.log2(masses)).sum()
    costs = [estimated_bits(s, np.array([number]), TABLES) for s in symbols[:, None]]
    assert entropy <= (masses * costs).sum() < 1.0005 * entropy + 1e-4


def test_bits_are_the_costs_of_entries():
    costs = bits(TINY)
    assert costs[3, 0] == 16.0
    assert costs[2, 1] == pytest.approx(math.log2(3), abs=1e-4)
    assert np.isinf(costs[3, 2])
    assert (2.0 ** -bits(TABLES)).sum(axis=1) == pytest.approx(1.0)


def test_table_constructor_keeps_its_own_read_only_copy():
    frequencies = np.array([[1, 65534, 1, 0], [1, 65533, 1, 1]])
    frequencies[0, 1:] = [65535, 0, 0]
    tables = ProbabilityTables(frequencies, np.array([0, 1]))
    frequencies[:] = 0
    assert tables.frequencies[0, 1] == 65535
    assert tables.frequencies.dtype == np.int32
    assert tables.half_widths.dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        tables.frequencies[0, 0] = 2


@pytest.mark.parametrize(
    ("frequencies", "half_widths"),
    [
        ([[65535, 2]], [0]),
        ([[65536, 0]], [0]),
        ([[65537, -1]], [0]),
        ([[65535, 1, 0, 0]], [1]),
        ([[65534, 1, 1, 0]], [0]),
        ([[65535, 1]], [1]),
        ([[65535, 1]], [-1]),
        ([[65535, 1]], [0, 0]),
        ([[65535.0, 1.0]], [0]),
        ([65535, 1], [0]),
        ([[2**32 + 65535, 1]], [0]),
        (np.zeros((0, 2), int), np.zeros(0, int)),
    ],
)
def test_arrays_that_are_no_tables_are_weights_errors(frequencies, half_widths):
    with pytest.raises(WeightsError):
        ProbabilityTables(np.array(frequencies), np.array(half_widths))


def test_stored_arrays_round_trip():
    arrays = TABLES.to_arrays()
    again = ProbabilityTables.from_arrays(arrays)
    assert np.array_equal(again.frequencies, TABLES.frequencies)
    assert np.array_equal(again.half_widths, TABLES.half_widths)
    assert sum(array.nbytes for array in arrays.values()) < 100_000


@pytest.mark.parametrize(
    "damage",
    [
        {"frequencies": np.array([65535], np.int32)},
        {"half_widths": np.array([-1], np.int16)},
        {"half_widths": np.array([20000], np.int16), "frequencies": np.ones(40002, np.int32)},
        {"half_widths": np.zeros(0, np.int16), "frequencies": np.zeros(0, np.int32)},
        {"frequencies": None},
    ],
)
def test_stored_arrays_that_are_no_tables_are_weights_errors(damage):
    good = {"frequencies": np.array([65535, 1], np.int32), "half_widths": np.array([0], np.int16)}
    arrays = {name: array for name, array in (good | damage).items() if array is not None}
    with pytest.raises(WeightsError):
        ProbabilityTables.from_arrays(arrays)


def test_refit_without_symbols_changes_nothing():
    refit = tables_from_histograms(TABLES, np.zeros((64, 11)), prior_weight=1000.0)
    assert np.array_equal(refit.frequencies, TABLES.frequencies)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.floats(1e-3, 1e6))
def test_refit_tables_are_symmetric_and_valid(seed, max_half, prior_weight):
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 10 ** generator.integers(1, 7), (4, 2 * max_half + 1))
    refit = tables_from_histograms(TINY, counts, prior_weight)
    assert np.array_equal(refit.half_widths, TINY.half_widths)
    for number in range(4):
        inner = refit.row(number)[:-1]
        assert np.array_equal(inner, inner[::-1])


def test_refit_tables_cost_less_on_what_they_were_fitted_to():
    generator = np.random.default_rng(3)
    symbols = np.rint(generator.laplace(size=20_000) * 2).astype(np.int64).clip(-60, 60)
    indexes = np.full(len(symbols), 24)
    counts = np.zeros((64, 121))
    counts[24] = np.bincount(symbols + 60, minlength=121)
    refit = tables_from_histograms(TABLES, counts, prior_weight=100.0)
    assert estimated_bits(symbols, indexes, refit) < 0.97 * estimated_bits(symbols, indexes, TABLES)


@pytest.mark.parametrize(
    ("counts", "weight"),
    [
        (np.zeros((4, 2)), 1.0),
        (np.zeros((3, 3)), 1.0),
        (np.zeros((4, 3)), 0.0),
        (-np.ones((4, 3)), 1.0),
        (np.full((4, 3), np.nan), 1.0),
    ],
)
def test_refit_refuses_what_is_no_histogram(counts, weight):
    with pytest.raises(ValueError, match="histograms"):
        tables_from_histograms(TINY, counts, weight)


# Escapes


@given(st.lists(st.tuples(st.integers(0, 65534), st.booleans()), max_size=50))
def test_golomb_codes_round_trip_and_have_the_announced_length(pairs):
    excess = np.array([e for e, _ in pairs], np.int32)
    negative = np.array([n for _, n in pairs], bool)
    classes, tails = golomb.golomb_classes(excess), golomb.golomb_tails(excess, negative)
    again, signs = golomb.golomb_values(classes, tails)
    assert np.array_equal(again, excess)
    assert np.array_equal(signs, negative)
    cost = (16 - np.log2(golomb.CLASS_FREQUENCIES[classes])).sum() + len(tails)
    assert cost == golomb.bit_counts(excess).sum()


def test_golomb_classes_change_at_powers_of_two():
    excess = np.array([0, 1, 2, 3, 6, 7, 32766, 32767, 65534])
    assert golomb.golomb_classes(excess).tolist() == [0, 1, 1, 2, 2, 3, 14, 15, 15]
    with pytest.raises(ValueError, match="excess"):
        golomb.golomb_classes(np.array([65535]))


# Payloads


@both_coders
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_symbols_round_trip(coder, data):
    tables = data.draw(st.sampled_from([TABLES, TINY]))
    calls = data.draw(symbol_calls(len(tables)))
    payload = encoded(calls, tables, coder)
    again = decoded(payload, [indexes for _, indexes in calls], tables, coder)
    assert [a.dtype for a in again] == [np.int32] * len(calls)
    assert all(np.array_equal(a, symbols) for a, (symbols, _) in zip(again, calls, strict=True))


@needs_constriction
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_both_coders_write_the_same_bytes_and_read_each_other(data):
    tables = data.draw(st.sampled_from([TABLES, TINY]))
    calls = data.draw(symbol_calls(len(tables)))
    fast, slow = CODERS
    payload = encoded(calls, tables, fast)
    assert encoded(calls, tables, slow) == payload
    index_calls = [indexes for _, indexes in calls]
    for a, b in zip(
        decoded(payload, index_calls, tables, slow),
        decoded(payload, index_calls, tables, fast),
        strict=True,
    ):
        assert np.array_equal(a, b)


@needs_constriction
@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=200),
    st.binary(max_size=40).map(lambda b: b[: len(b) // 4 * 4]),
)
def test_both_coders_agree_word_for_word_and_in_their_state(pairs, words):
    states = []
    for coder in CODERS:
        models = coder.models_of(TINY)
        encoder, trace = coder.encoder(), []
        for entry, number in pairs:
            length = len(TINY.row(number))
            encoder.encode(np.array([entry % length], np.int32), models[number])
            trace.append((encoder.pos(), encoder.get_compressed().tolist()))
        decoder = coder.decoder(np.frombuffer(words, "<u4").astype(np.uint32))
        try:
            read = [decoder.decode(models[number], 1).tolist() for _, number in pairs]
        except (AssertionError, ValueError):
            read = "impossible"
        states.append((trace, read))
    assert states[0] == states[1]


def entries_around_one_half(count: int) -> np.ndarray:
    """Entries whose interval keeps 1/2 inside: the encoder cannot know whether it will carry."""
    half = REFERENCE.decoder(np.array([0x80000000], np.uint32))
    return half.decode(REFERENCE.models_of(TINY)[2], count)


@needs_constriction
@pytest.mark.parametrize("count", [0, 1, 20, 21, 22, 40, 41, 60, 200])
@pytest.mark.parametrize("last", [[], [0], [1], [2], [3], [0, 0, 0], [2, 2, 2]])
def test_both_coders_agree_while_a_carry_is_pending(count, last):
    results = []
    for coder in CODERS:
        encoder, model = coder.encoder(), coder.models_of(TINY)[2]
        encoder.encode(entries_around_one_half(count), model)
        encoder.encode(np.array(last, np.int32), model)
        results.append((encoder.get_compressed().tolist(), encoder.pos()))
    assert results[0] == results[1]


@both_coders
@pytest.mark.parametrize("count", [41, 60, 200])
@pytest.mark.parametrize("last", [[], [-1], [0], [1], [7], [-1, -1, -1], [1, 1, 1]])
def test_payload_is_right_while_a_carry_is_pending(coder, count, last):
    symbols = np.append(entries_around_one_half(count) - 1, last).astype(np.int32)
    indexes = np.full(len(symbols), 2)
    payload = encoded([(symbols, indexes)], TINY, coder)
    assert np.array_equal(decoded(payload, [indexes], TINY, coder)[0], symbols)
    if not last:
        assert payload == b"\x80"


@both_coders
def test_known_symbols_give_the_known_words(coder):
    encoder = coder.encoder()
    models = coder.models_of(TINY)
    encoder.encode(np.array([0, 1, 2, 2, 1, 0, 0, 2, 1, 1, 0, 3] * 3, np.int32), models[2])
    encoder.encode(np.array([1, 0, 1], np.int32), models[3])
    assert [f"{word:08x}" for word in encoder.get_compressed()] == KNOWN_WORDS


@both_coders
def test_known_symbols_give_the_known_payload(coder):
    symbols = np.array([0, 0, 1, -1, 5, -700, 0, 2, -2, 0], np.int32)
    indexes = np.array([0, 1, 2, 2, 1, 3, 0, 2, 2, 1])
    assert encoded([(symbols, indexes)], TINY, coder).hex() == KNOWN_PAYLOAD


@both_coders
def test_nothing_costs_nothing(coder):
    empty = (np.zeros(0, np.int32), np.zeros(0, np.int64))
    assert encoded([], coder=coder) == b""
    assert encoded([empty, empty], coder=coder) == b""
    assert decoded(b"", [empty[1]], coder=coder)[0].shape == (0,)
    certain = (np.zeros(500, np.int32), np.zeros(500, np.int64))
    assert len(encoded([certain], coder=coder)) <= 1


@both_coders
@pytest.mark.parametrize("symbol", [0, 1, -1, 2, LARGEST_SYMBOL, -LARGEST_SYMBOL])
@pytest.mark.parametrize("index", [0, 30, 63])
def test_single_symbol_round_trips(coder, symbol, index):
    indexes = np.array([index], np.uint8)
    payload = encoded([(np.array([symbol], np.int32), indexes)], coder=coder)
    assert decoded(payload, [indexes], coder=coder)[0].tolist() == [symbol]


def test_more_than_256_tables_keep_their_order():
    many = ProbabilityTables(np.tile(TINY.frequencies, (100, 1)), np.tile(TINY.half_widths, 100))
    generator = np.random.default_rng(5)
    symbols, indexes = generator.integers(-3, 4, 2000), generator.integers(0, 400, 2000)
    payload = encoded([(symbols, indexes)], many)
    assert np.array_equal(decoded(payload, [indexes], many)[0], symbols)


def test_payload_does_not_depend_on_integer_types_or_strides():
    symbols, indexes = gaussian_symbols(3000, seed=1)
    wide = np.stack([symbols, symbols], axis=1).astype(np.int64)[:, 0]
    payload = encoded([(symbols, indexes)])
    assert encoded([(wide, indexes.astype(np.uint8))]) == payload
    assert encoded([(symbols, indexes)]) == payload
    same_tables = ProbabilityTables.from_arrays(TABLES.to_arrays())
    assert encoded([(symbols, indexes)], same_tables) == payload


def test_finishing_twice_or_going_on_afterwards_is_harmless():
    symbols, indexes = gaussian_symbols(100, seed=2)
    encoder = RangeEncoder(TABLES)
    encoder.encode(symbols[:50], indexes[:50])
    assert encoder.finish() == encoder.finish()
    encoder.encode(symbols[50:], indexes[50:])
    calls = [(symbols[:50], indexes[:50]), (symbols[50:], indexes[50:])]
    assert encoder.finish() == encoded(calls)


@pytest.mark.parametrize("count", [1, 10, 100, 1000, 60_000])
def test_payload_is_within_a_percent_and_8_bytes_of_the_estimate(count):
    symbols, indexes = gaussian_symbols(count, seed=count)
    symbols[::500] = 3000  # escapes
    estimate = estimated_bits(symbols, indexes, TABLES) / 8
    assert abs(len(encoded([(symbols, indexes)])) - estimate) <= 0.01 * estimate + 8


@settings(deadline=None, max_examples=50)
@given(symbol_calls(4))
def test_payload_is_shorter_than_the_words_of_the_coder(calls):
    encoder = range_coder.RangeEncoder(TINY, REFERENCE)
    estimate = 0.0
    for symbols, indexes in calls:
        encoder.encode(symbols, indexes)
        estimate += estimated_bits(symbols, indexes, TINY)
    payload = encoder.finish()
    assert len(payload) <= estimate * 1.001 / 8 + 1.01
    assert not payload or any(payload[-1 - (len(payload) - 1) % 4 :])


@pytest.mark.parametrize(
    ("symbols", "indexes"),
    [
        ([0], [64]),
        ([0], [-1]),
        ([0, 0], [0]),
        ([[0]], [[0]]),
        ([0.0], [0]),
        ([0], [0.0]),
        ([LARGEST_SYMBOL + 1], [0]),
        ([-LARGEST_SYMBOL - 1], [0]),
        ([-(2**31)], [0]),
    ],
)
def test_what_cannot_be_coded_is_a_value_error(symbols, indexes):
    with pytest.raises(ValueError, match=r"index|symbol"):
        RangeEncoder(TABLES).encode(np.array(symbols), np.array(indexes))


def test_index_outside_the_tables_never_reaches_the_decoder():
    decoder = RangeDecoder(b"", TABLES)
    for indexes in ([64], [-1], [0.0], [[0]]):
        with pytest.raises(ValueError, match="index"):
            decoder.decode(np.array(indexes))


# Damage


def outcome(data: bytes, index_calls, tables, coder) -> str | list[list[int]]:
    """Decode bytes of unknown origin; anything but symbols or ``StreamError`` fails the test."""
    try:
        return [symbols.tolist() for symbols in decoded(data, index_calls, tables, coder)]
    except StreamError:
        return "rejected"


@both_coders
def test_every_truncation_extension_and_bit_flip_is_rejected_or_other_symbols(coder):
    symbols, indexes = gaussian_symbols(120, seed=7, most_tables=30)
    symbols[[5, 60, 61]] = [900, -30_000, 77]
    payload = encoded([(symbols, indexes)], coder=coder)
    variants = [payload[:n] for n in range(len(payload))]
    variants += [payload + tail for tail in (b"\0", b"\1", b"\xff", b"\0" * 4, payload)]
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        variants.append(bytes(flipped))
    for variant in variants:
        assert outcome(variant, [indexes], TABLES, coder) != [symbols.tolist()]
    assert outcome(payload, [indexes], TABLES, coder) == [symbols.tolist()]
    assert outcome(payload + b"\0", [indexes], TABLES, coder) == "rejected"


@both_coders
@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60) | st.sampled_from([b"\xff" * n for n in range(20)]), st.data())
def test_garbage_is_rejected_or_is_the_payload_of_its_symbols(coder, garbage, data):
    indexes = np.array(data.draw(st.lists(st.integers(0, 3), max_size=60)), np.int64)
    result = outcome(garbage, [indexes], TINY, coder)
    if result != "rejected":
        assert encoded([(np.array(result[0], np.int32), indexes)], TINY, coder) == garbage


@both_coders
def test_symbol_beyond_the_limit_is_rejected(coder):
    models = coder.models_of(TINY)
    class_model, bit_model = coder.escape_models
    encoder = coder.encoder()
    encoder.encode(np.array([1], np.int32), models[0])
    encoder.encode(np.array([15], np.int32), class_model)
    encoder.encode(np.array([0, *[1] * 15], np.int32), bit_model)
    data = encoder.get_compressed().astype("<u4").tobytes()
    with pytest.raises(StreamError, match="magnitude above"):
        RangeDecoder(data, TINY, coder).decode(np.array([0]))


def test_panics_of_the_coder_are_damage_and_interrupts_are_not():
    class PanicException(BaseException):
        """Looks like the one of Rust bindings, which cannot be imported."""

    with pytest.raises(StreamError), range_coder.damage_reported():
        raise PanicException
    with pytest.raises(KeyboardInterrupt), range_coder.damage_reported():
        raise KeyboardInterrupt


def test_reference_coder_steps_in_where_constriction_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    backend.cache_clear()
    try:
        assert backend().encoder is reference_coder.RangeEncoder
        with pytest.raises(ImportError):
            backend("constriction")
    finally:
        backend.cache_clear()
    with pytest.raises(ValueError, match="no range coder"):
        backend("huffman")


# Symbol check


def test_symbol_check_is_the_crc_of_little_endian_int32():
    z, y = np.array([1, -1], np.int64), np.array([[256], [16]], np.int32)
    known = bytes.fromhex("01000000ffffffff0001000010000000")
    crc = 0xFFFF
    for byte in known:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    assert symbol_check(z, y) == crc
    assert symbol_check(np.concatenate([z, y.ravel()])) == crc
    assert symbol_check(z, y[:1], y[1:]) == crc
    assert symbol_check() == 0xFFFF


def test_symbol_check_refuses_what_int32_cannot_hold():
    for array in (np.array([0.5]), np.array([2**31])):
        with pytest.raises(ValueError, match="symbol check"):
            symbol_check(array)
