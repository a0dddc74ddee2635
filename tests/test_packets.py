"""Packets: any subset decodes, damage is harmless and reported, parity gives exact pictures."""

from __future__ import annotations

import builtins
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import photo

from lic.codecs.conceal import CONCEALERS, concealer, with_trust
from lic.codecs.packeted import PacketCodec
from lic.codecs.vqgan import VqganCodec
from lic.container.packets import (
    Datagram,
    is_packets,
    parse_datagram,
    read_packets,
    write_datagram,
    write_packets,
)
from lic.container.received import receive
from lic.errors import (
    InputError,
    LimitError,
    NothingReceived,
    StreamError,
    UsageProblem,
    WeightsError,
)
from lic.pictures import Picture
from lic.weights import find_weights

TINY = Path(__file__).parent / "weights" / "tiny-vqgan.safetensors"
PLAIN = ("none", "nearest", "mean")


@pytest.fixture(scope="module")
def codec() -> PacketCodec:
    return PacketCodec(VqganCodec(find_weights("vqgan", path=TINY)))


@pytest.fixture(scope="module")
def picture() -> Picture:
    return Picture(photo(100, 150))


@pytest.fixture(scope="module")
def sent(codec, picture):
    return codec.encode(picture, 100, parity=2, reconstruct=True)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (17, 40), (65, 63), (100, 150)])
def test_any_size_arrives_as_the_encoder_showed_it(codec, size):
    encoded = codec.encode(Picture(photo(*size)), 100, reconstruct=True)
    assert is_packets(encoded.data)
    mended = codec.mend(receive(encoded.data), "none")
    assert mended.picture == encoded.reconstruction
    assert mended.lost == 0


def test_every_rung_and_grey(codec):
    grey = Picture(photo(40, 60).mean(2, keepdims=True).astype(np.uint8).repeat(3, 2), grey=True)
    for bits in range(codec.codec.bottom, codec.codec.top + 1):
        encoded = codec.encode(grey, 0, codebook_size=2**bits, reconstruct=True)
        assert codec.decode(encoded.data) == encoded.reconstruction
        assert encoded.reconstruction.grey


def test_packets_show_what_a_file_shows(codec, picture, sent):
    assert codec.codec.decode(codec.codec.encode(picture, 100).data) == sent.reconstruction


@pytest.mark.parametrize("conceal", PLAIN)
def test_any_subset_in_any_order_decodes(codec, sent, conceal):
    random = np.random.default_rng(0)
    datagrams = read_packets(sent.data)
    count = sent.details["packets"]
    for left in range(1, count):
        chosen = random.permutation(count)[:left]
        stream = write_packets([datagrams[i] for i in chosen])
        mended = codec.mend(receive(stream), conceal)
        assert mended.picture.pixels.shape == (100, 150, 3)
        assert mended.received.data == left
        assert 0 < mended.lost < mended.indices


def test_parity_replaces_what_is_lost(codec, sent):
    datagrams = read_packets(sent.data)
    for gone in ({0, 1}, {2, 5}, {0, len(datagrams) - 1}):
        stream = write_packets([d for i, d in enumerate(datagrams) if i not in gone])
        mended = codec.mend(receive(stream), "none")
        assert mended.picture == sent.reconstruction
        assert mended.recovered == len([i for i in gone if i < sent.details["packets"]])


def without_zfec(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "zfec":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_without_zfec_data_still_decodes(codec, picture, sent, monkeypatch):
    without_zfec(monkeypatch)
    whole = codec.mend(receive(sent.data), "mean")
    assert whole.picture == sent.reconstruction
    assert not whole.parity_unused
    part = codec.mend(receive(write_packets(read_packets(sent.data)[1:])), "mean")
    assert part.lost
    assert part.parity_unused
    with pytest.raises(InputError, match=r"lic\[parity\]"):
        codec.encode(picture, 100, parity=1)


def test_copies_and_order_change_nothing(codec, sent):
    datagrams = read_packets(sent.data)
    mended = codec.mend(receive(write_packets(datagrams[::-1] + datagrams)), "none")
    assert mended.picture == sent.reconstruction
    assert mended.received.doubled == len(datagrams)


def test_of_two_pictures_the_one_with_more_datagrams_is_shown(codec, sent):
    other = read_packets(codec.encode(Picture(photo(100, 150, 9)), 100).data)
    stream = write_packets(other[:3] + read_packets(sent.data))
    mended = codec.mend(receive(stream), "none")
    assert mended.picture == sent.reconstruction
    assert mended.received.foreign == 3


def test_streams_put_one_behind_the_other_are_one(codec, sent):
    other = codec.encode(Picture(photo(100, 150, 9)), 100).data
    mended = codec.mend(receive(other + sent.data), "none")
    assert mended.picture == sent.reconstruction
    assert mended.received.damaged == 0
    assert mended.received.foreign == len(read_packets(other))


def test_every_flipped_bit_is_harmless_or_reported(codec):
    sent = codec.encode(Picture(photo(48, 64)), 0, reconstruct=True)
    for bit in range(8 * len(sent.data)):
        changed = bytearray(sent.data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            mended = codec.mend(receive(bytes(changed)), "mean")
        except (StreamError, NothingReceived):
            continue
        assert mended.lost or mended.picture == sent.reconstruction
        assert not mended.lost or mended.received.damaged


def test_a_cut_stream_loses_packets_alone(codec, sent):
    data = sent.data
    for end in range(5, len(data), 7):
        try:
            mended = codec.mend(receive(data[:end]), "mean")
        except NothingReceived:
            assert end < 60
            continue
        assert mended.lost or mended.picture == sent.reconstruction


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", StreamError),
        (b"\x89LIC" + bytes(30), StreamError),
        (b"\x89LPK", StreamError),
        (b"\x89LPK\1", StreamError),
        (write_packets([]), NothingReceived),
        (write_packets([b"", b"abc", bytes(60)]), NothingReceived),
    ],
)
def test_what_holds_no_picture_is_refused(data, error):
    with pytest.raises(error):
        receive(data)


def some(**changes) -> Datagram:
    values = {"bits": 5, "grey": False, "picture": 7, "fingerprint": b"abc", "width": 300}
    values |= {"height": 20, "count": 4, "parity": 1, "index": 2, "payload": b"xyz"}
    return Datagram(**values | changes)


def test_fields_survive():
    assert parse_datagram(write_datagram(some(grey=True))) == some(grey=True)


@pytest.mark.parametrize(
    "changes", [{"index": 5}, {"count": 0, "parity": 5}, {"width": 0}, {"count": 255}]
)
def test_a_datagram_that_contradicts_itself_is_none(changes):
    with pytest.raises(StreamError):
        parse_datagram(write_datagram(some(**changes)))


def test_foreign_weights_rungs_and_counts_are_refused(codec, sent):
    received = receive(sent.data)
    for changes, error in (
        ({"fingerprint": b"abc"}, WeightsError),
        ({"bits": 15}, StreamError),
        ({"count": 200}, StreamError),
    ):
        header = replace(received.header, **changes)
        with pytest.raises(error):
            codec.mend(replace(received, header=header), "none")
    with pytest.raises(LimitError):
        receive(sent.data, max_pixels=100)


def test_payloads_keep_to_their_limit(codec, picture):
    for payload in (12, 40, 200):
        stream = codec.encode(picture, 100, payload=payload).data
        assert max(len(parse_datagram(d).payload) for d in read_packets(stream)) <= payload
    with pytest.raises(UsageProblem, match="too small"):
        codec.encode(Picture(photo(400, 400)), 100, payload=1)
    with pytest.raises(UsageProblem, match="together"):
        codec.encode(picture, 100, parity=255)
    with pytest.raises(UsageProblem, match="known: none"):
        codec.mend(receive(codec.encode(picture, 0).data), "magic")


@pytest.mark.parametrize("name", PLAIN)
def test_concealers_keep_what_arrived(codec, name):
    codebook = codec.codec.model.ladder.rung(8)
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(0, 256, (1, 9, 7), generator=generator)
    known = torch.rand(9, 7, generator=generator) > 0.6
    codewords = codec.codec.model.ladder.look_up(indices, 8)
    filled, trust = concealer(name, codec.codec.card)(codewords, known, codebook, 8)
    assert torch.equal(filled[0][:, known], codewords[0][:, known])
    assert bool((trust[0, 0][known] == 1).all())
    assert filled.isfinite().all()
    assert bool(((trust >= 0) & (trust <= 1)).all())


def test_neighbours_stand_in(codec):
    ladder = codec.codec.model.ladder
    codewords = ladder.look_up(torch.tensor([[[3, 0, 5]]]), 8)
    known = torch.tensor([[True, False, True]])
    nearest, _ = concealer("nearest", codec.codec.card)(codewords, known, ladder.rung(8), 8)
    assert torch.equal(nearest[0, :, 0, 1], codewords[0, :, 0, 0])
    mean, trust = concealer("mean", codec.codec.card)(codewords, known, ladder.rung(8), 8)
    wanted = codewords[0, :, 0, ::2].mean(1)
    assert torch.allclose(mean[0, :, 0, 1] * trust[0, 0, 0, 1], wanted, atol=1e-6)


def test_trust_is_the_length_of_a_mean():
    codebook = torch.eye(4)
    vectors, trust = with_trust(torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]]), codebook)
    assert trust.tolist() == pytest.approx([1, 0.5**0.5])
    assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1])


def test_unknown_concealers_are_named(codec):
    assert set(PLAIN) < set(CONCEALERS)
    with pytest.raises(UsageProblem, match="known: none"):
        concealer("magic", codec.codec.card)
    with pytest.raises(WeightsError):
        concealer("conv", codec.codec.card)
