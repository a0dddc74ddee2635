"""Sweeps over lossy channels: paired, repeatable, honest about what cannot be shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import photo
from PIL import Image

from lic.cli.main import cli
from lic.codecs.classic import CLASSIC
from lic.codecs.packeted import PacketCodec
from lic.codecs.vqgan import VqganCodec
from lic.errors import LicError, UsageProblem, WeightsError
from lic.evaluation.lossy import mean_of, sweep_losses
from lic.evaluation.lossy_report import concealer_table, loss_summary, plot_losses
from lic.evaluation.lossy_rows import Case, LossRow
from lic.evaluation.run_lossy import LossSettings
from lic.evaluation.senders import FileSender, PacketSender, Shown
from lic.pictures import Picture
from lic.weights import find_weights

TINY = Path(__file__).parent / "weights" / "tiny-vqgan.safetensors"


@pytest.fixture(scope="module")
def codec() -> PacketCodec:
    return PacketCodec(VqganCodec(find_weights("vqgan", path=TINY)))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        Image.fromarray(photo(96, 128, seed)).save(folder / f"{seed}.png")
    return folder


def test_a_sender_shows_what_arrives(codec):
    picture = Picture(photo(96, 128))
    sender = PacketSender(codec, 256, ("none", "mean"))
    sent = sender.send(picture)
    show = sender.receiver(picture, sent)
    whole = show(sent, "none")
    assert (whole.lost, whole.distance) == (0, None)
    empty, mean = (show(sent[2:], conceal) for conceal in sender.concealers)
    assert 0 < empty.lost == mean.lost < 1
    assert empty.distance == pytest.approx(1, abs=1e-4)  # nothing stands in for the codewords
    assert 0 < mean.distance < 2
    assert show([], "none").picture is None


def test_parity_is_compared_at_equal_bytes(codec):
    picture = Picture(photo(96, 128))
    plain, parity = (
        sum(map(len, PacketSender(codec, 256, ("none",), parity=p).send(picture))) for p in (0, 1)
    )
    assert parity <= plain


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_files_end_at_the_first_loss(name):
    picture = Picture(photo(96, 128))
    sender = FileSender(name, CLASSIC[name](), 50, 64)
    sent = sender.send(picture)
    show = sender.receiver(picture, sent)
    whole = sender.codec.decode(sender.codec.encode(picture, 50).data)
    assert np.array_equal(show(sent[::-1], "none").picture.pixels, whole.pixels)
    assert show(sent[1:], "none").picture is None
    begun = show(sent[:-3], "none")
    assert begun.picture is None or begun.picture.pixels.shape == (96, 128, 3)
    assert 0 < begun.lost < 1


def test_concealers_meet_the_same_losses(codec, pictures, tmp_path):
    sender = PacketSender(codec, 256, ("none", "nearest"))
    files = sorted(pictures.iterdir())
    cases = [Case(0.0), Case(0.4), Case(0.4, 2)]
    said: list[str] = []
    rows = sweep_losses([sender], cases, 3, files, ("psnr",), tmp_path, said.append)
    assert len(rows) == 2 * (1 + 2 * 3 * 2)
    by = {(r.conceal, r.case, r.seed, r.image): r.lost for r in rows}
    for (conceal, case, seed, image), lost in by.items():
        if case.loss:
            other = "none" if conceal == "nearest" else "nearest"
            assert by[other, case, seed, image] == lost
    anew = {"threads": 2, "fresh": True}
    again = sweep_losses([sender], cases, 3, files, ("psnr",), tmp_path, said.append, **anew)
    assert again == rows  # two pictures at once change nothing
    assert len((tmp_path / "per_loss.csv").read_text().splitlines()) == 1 + len(rows)


def test_finished_pictures_are_kept_and_unfinished_ones_sent_again(codec, pictures, tmp_path):
    sender = PacketSender(codec, 256, ("none",))
    files, cases = sorted(pictures.iterdir()), [Case(0.0), Case(0.4)]

    def run(sender=sender, seeds=2) -> tuple[list[LossRow], list[str]]:
        said: list[str] = []
        rows = sweep_losses([sender], cases, seeds, files, ("psnr",), tmp_path, said.append)
        return rows, said

    rows, said = run()
    assert len(said) == 2
    assert run() == (rows, ["2 pictures are there from an earlier run"])
    state = tmp_path / "per_loss.json"
    done = json.loads(state.read_text())
    del done["pictures"]["1.png"]
    state.write_text(json.dumps(done))  # as if cut off within the rows of the second picture
    again, said = run()
    assert again == rows
    assert [line.split(":")[0] for line in said[1:]] == ["1.png"]
    assert len((tmp_path / "per_loss.csv").read_text().splitlines()) == 1 + len(rows)
    for other in ({"seeds": 1}, {"sender": PacketSender(codec, 128, ("none",))}):
        assert len(run(**other)[1]) == 2


def row(image: str, seed: int, value: float, conceal: str = "mean") -> LossRow:
    return LossRow(
        sender="s",
        conceal=conceal,
        case=Case(0.1),
        seed=seed,
        image=image,
        packets=6,
        wire_bytes=100,
        bpp=0.1,
        lost=0.1,
        distance=None,
        shown=True,
        metrics={"psnr": value},
    )


def test_means_are_over_pictures_and_differences_are_paired():
    rows = [row("a", 0, 1), row("a", 1, 3), row("b", 0, 10)]
    mean = mean_of(rows, "psnr")
    assert mean.value == 6
    assert mean.low == 2
    assert mean.high == 10
    shifted = [row(r.image, r.seed, r.metrics["psnr"] + 1) for r in rows]
    paired = mean_of(shifted, "psnr", rows)
    assert (paired.value, paired.low, paired.high) == (1, 1, 1)
    assert mean_of(rows, "distance") is None


def test_concealers_are_compared_with_none_of_the_same_datagrams(tmp_path):
    bare = [row("a", 0, 1, "none"), row("a", 1, 3, "none"), row("b", 0, 10, "none")]
    better = [row(r.image, r.seed, r.metrics["psnr"] + 0.5, "mean") for r in bare]
    lines = concealer_table(bare + better, ["psnr"]).splitlines()
    assert len(lines) == 2
    assert lines[1].split()[-3:] == ["+0.500", "[+0.500,", "+0.500]"]
    assert concealer_table(bare, ["psnr"]) == ""
    by_name = {r["conceal"]: r for r in loss_summary(bare + better, ["psnr"])}
    assert by_name["mean"]["over_none"] == {"psnr": [0.5, 0.5, 0.5]}
    assert by_name["none"]["over_none"] == {}
    for name, rows in (("one", bare), ("both", bare + better)):
        plot_losses(tmp_path / f"{name}.png", rows, "psnr", name)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "both.png") as both:
        assert one.height < both.height  # the second row is there for comparisons


def test_settings_that_cannot_be_are_refused_before_anything_is_sent(tmp_path):
    for wrong in ({"concealers": ("magic",)}, {"losses": (1.5,)}, {"bursts": (0.5,)}):
        with pytest.raises(UsageProblem):
            LossSettings(**({"dataset": "x", "out": tmp_path, "losses": (0.2,)} | wrong))


def invoke(*arguments) -> tuple[int, str]:
    """Run ``lic eval``; returns the exit code that a shell would see, and what it printed."""
    result = CliRunner().invoke(cli, ["eval", *map(str, arguments)])
    if isinstance(result.exception, LicError):
        return result.exception.exit_code, str(result.exception)
    return result.exit_code, result.output


def test_the_command_writes_table_json_and_plot(pictures, tmp_path):
    out = tmp_path / "out"
    options = ["--dataset", pictures, "--weights", TINY, "--codebook-size", 256, "--out", out]
    channel = ["--channel", "0.2", "--burst", "0,3", "--conceal", "none,mean", "--seeds", 2]
    code, said = invoke(*options, *channel, "--codec", "vqgan,jpeg")
    assert code == 0
    assert "20 % bursts of 3" in said
    found = json.loads((out / "losses.json").read_text())["results"]
    assert {(r["sender"], r["conceal"]) for r in found} == {
        ("vqgan", ""),
        ("vqgan", "none"),
        ("vqgan", "mean"),
        ("jpeg", ""),
        ("jpeg", "none"),
    }
    assert (out / "losses.png").stat().st_size > 10_000
    assert invoke(*options, "--seeds", 2)[0] == 2
    assert invoke(*options, *channel, "--sheet", 1)[0] == 2
    code, said = invoke(*options, "--channel", "0.2", "--conceal", "conv")
    assert code == WeightsError.exit_code


def test_what_arrives_again_is_not_decoded_again(pictures, tmp_path):
    class Counting:
        name, identity, concealers = "counting", "1", ("a", "b")

        def __init__(self):
            self.asked = []

        def send(self, picture):
            return [b"0", b"1"]

        def receiver(self, picture, sent):
            def show(arrived, conceal):
                self.asked.append((tuple(arrived), conceal))
                return Shown(picture if conceal == "a" else None, 1 - len(arrived) / 2)

            return show

    sender, files = Counting(), sorted(pictures.iterdir())[:1]
    rows = sweep_losses([sender], [Case(0.0), Case(0.5)], 50, files, ("psnr",), tmp_path, print)
    assert len(rows) == 1 + 50 * 2
    # All four subsets come up in 50 tries; of the whole one the concealer does not matter.
    assert len(sender.asked) == len(set(sender.asked)) == 1 + 3 * 2
    for row in rows:
        assert row.shown == (row.lost == 0 or row.conceal == "a")
        assert (row.metrics["psnr"] == np.inf) == row.shown
