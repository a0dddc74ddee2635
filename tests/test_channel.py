"""Channels lose what they say, repeatably, and the command passes on what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import photo
from PIL import Image

from lic.channel.channel import Channel, read_trace
from lic.channel.losses import lost_in_bursts, lost_independently
from lic.cli.main import cli
from lic.container.packets import read_packets
from lic.errors import LicError, UsageProblem

TINY = str(Path(__file__).parent / "weights" / "tiny-vqgan.safetensors")
DATAGRAMS = [bytes([i]) * 20 for i in range(40)]


def runs(lost: np.ndarray) -> np.ndarray:
    """Return the lengths of the runs of losses."""
    edges = np.flatnonzero(np.diff(np.r_[0, lost.astype(int), 0]))
    return edges[1::2] - edges[::2]


def test_losses_have_the_share_and_bursts_that_were_asked_for():
    random = np.random.default_rng(0)
    assert lost_independently(100_000, 0.2, random).mean() == pytest.approx(0.2, abs=0.01)
    lost = lost_in_bursts(100_000, 0.2, 3, random)
    assert lost.mean() == pytest.approx(0.2, abs=0.02)
    assert runs(lost).mean() == pytest.approx(3, abs=0.2)
    assert lost_in_bursts(9, 1.0, 3, random).all()
    assert not lost_in_bursts(9, 0.0, 3, random).any()


def test_a_quiet_channel_changes_nothing():
    assert Channel().send(DATAGRAMS, 3).datagrams == DATAGRAMS


def test_seeds_repeat_and_switches_do_not_move_each_other():
    once = Channel(loss=0.3).send(DATAGRAMS, 5)
    assert Channel(loss=0.3).send(DATAGRAMS, 5) == once
    assert Channel(loss=0.3).send(DATAGRAMS, 6) != once
    shuffled = Channel(loss=0.3, reorder=4, duplicate=0.2).send(DATAGRAMS, 5)
    assert set(shuffled.datagrams) == set(once.datagrams)
    assert shuffled.datagrams != once.datagrams
    assert len(shuffled.datagrams) == len(once.datagrams) + shuffled.doubled


def test_each_impairment():
    assert Channel(reverse=True).send(DATAGRAMS, 0).datagrams == DATAGRAMS[::-1]
    assert len(Channel(duplicate=1).send(DATAGRAMS, 0).datagrams) == 80
    cut = Channel(truncate=1).send(DATAGRAMS, 0)
    assert cut.cut == 40
    assert all(len(d) < 20 for d in cut.datagrams)
    flipped = Channel(flip=0.01).send(DATAGRAMS, 0)
    changed = sum(a != b for a, b in zip(flipped.datagrams, DATAGRAMS, strict=True))
    assert 0 < changed == flipped.flipped < 40
    dropped = Channel(drop=frozenset({0, 39, 100})).send(DATAGRAMS, 0)
    assert dropped.datagrams == DATAGRAMS[1:39]
    moved = Channel(reorder=3).send(DATAGRAMS, 0).datagrams
    assert max(abs(moved.index(d) - i) for i, d in enumerate(DATAGRAMS)) <= 3


def test_a_trace_repeats():
    trace = read_trace("1 0\n0", "t")
    assert Channel(trace=trace).send(DATAGRAMS, 0).datagrams == [
        d for i, d in enumerate(DATAGRAMS) if i % 3
    ]
    with pytest.raises(UsageProblem, match="trace"):
        read_trace("0 2", "t")


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": 1.5},
        {"flip": -1},
        {"burst": 3},
        {"loss": 0.9, "burst": 1.5},
        {"loss": 0.2, "burst": 0.5},
        {"loss": 0.1, "trace": (True,)},
        {"reorder": -1},
    ],
)
def test_channels_that_cannot_be_are_refused(settings):
    with pytest.raises(UsageProblem):
        Channel(**settings).send(DATAGRAMS, 0)


@pytest.fixture
def packets(tmp_path) -> Path:
    Image.fromarray(photo(90, 120)).save(tmp_path / "p.png")
    invoke(
        "encode", tmp_path / "p.png", "--codec", "vqgan", "--packets", "--weights", TINY, "-q", 99
    )
    return tmp_path / "p.pkt"


def invoke(*arguments, data: bytes | None = None):
    """Run a command; returns the exit code that a shell would see, and what it printed."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], input=data)
    if isinstance(result.exception, LicError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize(("loss", "code"), [(0, 0), (0.4, 0), (1, 10)])
def test_the_command_loses_and_decode_tells(packets, loss, code):
    lossy, shown = packets.with_name("lossy.pkt"), packets.with_name("shown.png")
    assert invoke("channel", packets, "-o", lossy, "--loss", loss, "--seed", 4)[0] == 0
    found, said = invoke("decode", lossy, "-o", shown, "--weights", TINY)
    assert found == code
    assert shown.exists() == (code == 0)
    assert ("indices lost" in said) == (loss == 0.4)


def test_drop_lists_and_traces_by_command(packets, tmp_path):
    (tmp_path / "trace").write_text("1 0 0")
    count = len(read_packets(packets.read_bytes()))
    for options, left in ((["--drop", "0,2-3"], count - 3), (["--trace", tmp_path / "trace"], 0)):
        out = tmp_path / "out.pkt"
        assert invoke("channel", packets, "-o", out, "-f", *options)[0] == 0
        found = len(read_packets(out.read_bytes()))
        assert found == (left or count - -(-count // 3))
    for drop in ("a", "5-3", "0-99999999999"):
        assert invoke("channel", packets, "-o", tmp_path / "x.pkt", "--drop", drop)[0] == 2
    assert invoke("channel", packets, "-o", packets)[0] == 2
    assert invoke("channel", tmp_path / "p.png", "-o", tmp_path / "x.pkt")[0] == 4


def test_folders_go_through_a_channel(packets, tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.pkt").write_bytes(packets.read_bytes())
    assert invoke("channel", tmp_path / "in", "-o", tmp_path / "out", "--loss", 0.3)[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.pkt", "b.pkt"]


def test_info_reads_packets(packets):
    code, said = invoke("info", packets)
    assert code == 0
    assert "packets 6 of 6" in said


def test_mistakes_of_options(packets, tmp_path):
    picture = tmp_path / "p.png"
    for options in (
        ["--packets"],
        ["--codec", "vqgan", "--parity", 1],
        ["--codec", "vqgan", "--packets", "--index-coder", "tree"],
        ["--codec", "vqgan", "--packets", "--payload", 0],
        ["--codec", "vqgan", "--packets", "--metadata", "all"],
    ):
        assert invoke("encode", picture, "-o", tmp_path / "y.pkt", *options)[0] == 2
    for name, options in (("a.lic", ["--packets"]), ("a.pkt", [])):
        out = ("-o", tmp_path / name, "--weights", TINY)
        assert invoke("encode", picture, "--codec", "vqgan", *out, *options)[0] == 2
    assert invoke("encode", picture, "--codec", "vqgan", "--weights", TINY)[0] == 0
    decode = ("decode", tmp_path / "p.lic", "-o", tmp_path / "z.png", "--weights", TINY)
    assert invoke(*decode, "--conceal", "mean")[0] == 2
