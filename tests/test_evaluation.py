"""Evaluation: figures against values known from elsewhere, and settings that cannot work."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from PIL import Image

from lic.codecs import classic
from lic.codecs.base import Codec
from lic.codecs.classic import CLASSIC
from lic.codecs.registry import get_codec
from lic.errors import InputError, StreamError, UsageProblem, WeightsError
from lic.evaluation.bd import bd_rate, rising
from lic.evaluation.datasets import find_dataset, known_hashes, missing_files
from lic.evaluation.fetch import fetch
from lic.evaluation.metrics import ms_ssim, psnr
from lic.evaluation.published import read_published
from lic.evaluation.run import EvalSettings, evaluate
from lic.pictures import Picture

CURVE = [(0.1 * 1.4**i, 26 + 1.2 * i) for i in range(12)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    for seed in range(2):
        Image.fromarray(photo(176, 192, seed)).save(folder / f"{seed}.png")
    return folder


def test_psnr_of_a_known_error():
    x = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(x, x + np.uint8(5)) == pytest.approx(10 * math.log10(255**2 / 25))
    assert psnr(x, x) == math.inf


def _ssim_terms(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """SSIM and its contrast-structure part by the formulas of Wang et al., one channel."""
    from scipy.ndimage import convolve1d

    window = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(x: np.ndarray) -> np.ndarray:
        inside = slice(5, -5)
        return convolve1d(convolve1d(x, window, 0), window, 1)[inside, inside]

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    structure = (2 * cov + c2) / (va + vb + c2)
    return float((structure * (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)).mean()), float(
        structure.mean()
    )


def test_ms_ssim_equals_its_definition():
    x = photo(176, 192)
    noise = np.random.default_rng(0).normal(0, 12, x.shape)
    y = np.clip(x + noise, 0, 255).astype(np.uint8)
    weights = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    expected = []
    for channel in range(3):
        a, b = (p[:, :, channel].astype(float) for p in (x, y))
        value = 1.0
        for scale, weight in enumerate(weights):
            whole, structure = _ssim_terms(a, b)
            value *= (whole if scale == 4 else structure) ** weight
            a, b = (p.reshape(p.shape[0] // 2, 2, p.shape[1] // 2, 2).mean((1, 3)) if scale < 4
                    else p for p in (a, b))  # fmt: skip
        expected.append(value)
    assert ms_ssim(x, y) == pytest.approx(np.mean(expected), abs=2e-4)
    assert ms_ssim(x, x) == pytest.approx(1)


def test_ms_ssim_is_undefined_for_small_pictures():
    assert ms_ssim(photo(160, 400), photo(160, 400, 1)) is None


def test_half_the_rate_is_minus_fifty_percent():
    found = bd_rate(CURVE, [(rate / 2, value) for rate, value in CURVE])
    assert found.percent == pytest.approx(-50, abs=0.01)
    assert (found.low, found.high) == (CURVE[0][1], CURVE[-1][1])
    assert found.note == ""


def test_what_limits_a_comparison_is_told():
    assert "only 5 points" in bd_rate(CURVE, CURVE[:5]).note
    assert "range under 8 dB" in bd_rate(CURVE, CURVE[:5]).note
    assert bd_rate(CURVE, CURVE[:3]).percent is None
    far = [(rate, value + 50) for rate, value in CURVE]
    assert bd_rate(CURVE, far).note == "no common range"
    dented = [*CURVE, (CURVE[-1][0] * 1.1, CURVE[-1][1] - 1)]
    assert "1 points dropped" in bd_rate(CURVE, dented).note
    assert rising(dented) == CURVE


def test_limits_cut_the_range_and_leave_the_curves():
    # Half the rate below 32 dB, a quarter of it above 34.
    steps = [(rate * (0.5 if value < 33 else 0.25), value) for rate, value in CURVE]
    low, high = (bd_rate(CURVE, steps, limits=limits) for limits in ((0, 29), (37, 99)))
    assert (low.low, low.high) == (CURVE[0][1], 29)
    assert (high.low, high.high) == (37, CURVE[-1][1])
    assert low.percent == pytest.approx(-50, abs=0.01)
    assert high.percent == pytest.approx(-75, abs=0.01)
    wide = bd_rate(CURVE, steps, limits=(CURVE[0][1], CURVE[-1][1]))
    assert wide.percent == pytest.approx(bd_rate(CURVE, steps).percent)
    assert bd_rate(CURVE, steps, limits=(60, 80)).note == "no common range"


def test_an_aom_without_tune_iq_is_one_clear_error(monkeypatch):
    get_codec("avif-iq")
    too_new = {"quality": 50, "codec": "aom", "advanced": {"tune": "not yet"}}
    monkeypatch.setattr(classic, "_avif_iq", lambda _quality: too_new)
    with pytest.raises(InputError, match="avif-iq needs a libavif whose aom has tune=iq"):
        get_codec("avif-iq")


@pytest.mark.parametrize("name", sorted(CLASSIC))
def test_classic_codecs_keep_the_interface(name):
    codec = get_codec(name)
    assert isinstance(codec, Codec)
    picture = Picture(photo(64, 80))
    low, high = (codec.encode(picture, q, reconstruct=True) for q in (15, 85))
    assert len(low.data) < len(high.data)
    assert codec.decode(low.data) == low.reconstruction
    assert psnr(picture.pixels, low.reconstruction.pixels) < psnr(
        picture.pixels, high.reconstruction.pixels
    )
    with pytest.raises(StreamError):
        codec.decode(b"nonsense")


def test_an_evaluation_writes_what_it_promises(pictures, tmp_path):
    published = tmp_path / "points.json"
    points = [{"bpp": r, "psnr": v} for r, v in CURVE]
    published.write_text(json.dumps({"curves": {"other": {"points": points}}}))
    settings = EvalSettings(
        dataset=str(pictures),
        out=tmp_path / "out",
        qualities=(5, 10, 20, 40, 60, 80, 95),
        published=str(published),
    )
    codecs = {n: get_codec(n) for n in ("jpeg", "webp")}
    text = evaluate(codecs, settings, lambda _line: None)
    assert "webp" in text
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    results = summary["webp"]["results"]
    assert set(results) >= {"psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time"}
    with (tmp_path / "out/per_image.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["codec"], r["quality"]) == ("webp", "40")]
    files = [get_codec("webp").encode(Picture(photo(176, 192, s)), 40).data for s in range(2)]
    assert [int(r["bytes"]) for r in rows] == [len(f) for f in files]
    assert results["bpp"][3] == pytest.approx(
        np.mean([8 * len(f) / (176 * 192) for f in files]), abs=1e-5
    )
    bd = json.loads((tmp_path / "out/bd_rate.json").read_text())
    assert (bd["anchor"], bd["method"]) == ("jpeg", "akima")
    assert bd["codecs"]["webp"] < 0
    assert any(name.startswith("other") for name in bd["codecs"])


def test_scores_of_ssimulacra_2_are_compared_from_10_to_85(pictures, tmp_path):
    settings = EvalSettings(
        dataset=str(pictures), out=tmp_path, metric="ssimulacra2", qualities=(2, 9, 20, 40, 70, 99)
    )
    text = evaluate({n: get_codec(n) for n in ("jpeg", "webp")}, settings, lambda _line: None)
    assert "SSIMULACRA2" in text.splitlines()[0]
    assert "BD-rate against jpeg by ssimulacra2, akima; common range, within 10 to 85" in text
    results = json.loads((tmp_path / "summary.json").read_text())
    scores = {n: results[n]["results"]["ssimulacra2"] for n in ("jpeg", "webp")}
    assert scores["jpeg"] == sorted(scores["jpeg"])
    low, high = json.loads((tmp_path / "bd_rate.json").read_text())["ranges"]["webp"]
    assert low == pytest.approx(max(10, *(s[0] for s in scores.values())), abs=1e-5)
    assert high == pytest.approx(min(85, *(s[-1] for s in scores.values())), abs=1e-5)
    with (tmp_path / "per_image.csv").open(newline="") as file:
        assert all(-100 < float(r["ssimulacra2"]) <= 100 for r in csv.DictReader(file))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"dataset": "nowhere"}, InputError, "neither a folder"),
        ({"qualities": (101,)}, UsageProblem, "outside 0..100"),
        ({"anchor": "vtm"}, UsageProblem, "anchor 'vtm' is not among"),
        ({"published": "nowhere.json"}, InputError, "nowhere.json"),
        ({"dataset": "kodak", "data_root": "nowhere"}, InputError, "24 of 24 pictures are missing"),
    ],
)
def test_settings_that_cannot_work_are_named_before_coding(
    pictures, tmp_path, changes, error, text
):
    values = {"dataset": str(pictures), "out": tmp_path / "out"} | changes
    codecs = {"jpeg": get_codec("jpeg")}
    with pytest.raises(error, match=text):
        evaluate(codecs, EvalSettings(**values), lambda _line: None)
    assert not (tmp_path / "out/per_image.csv").exists()


def test_a_named_set_needs_a_place(monkeypatch):
    monkeypatch.delenv("LIC_DATA", raising=False)
    with pytest.raises(InputError, match="LIC_DATA"):
        find_dataset("kodak")


def test_fetching_keeps_only_what_has_the_known_hash(tmp_path):
    (tmp_path / "from").mkdir()
    for name in known_hashes("kodak"):
        (tmp_path / "from" / name).write_bytes(b"something else")
    base = (tmp_path / "from").as_uri()
    with pytest.raises(InputError, match="its SHA-256 differs; nothing of it was kept"):
        fetch("kodak", tmp_path / "to", base, lambda _line: None)
    assert not list((tmp_path / "to").iterdir())
    with pytest.raises(InputError, match="without a network, copy kodim01"):
        fetch("kodak", tmp_path / "to", (tmp_path / "no").as_uri(), lambda _line: None)
    absent, changed = missing_files("kodak", tmp_path / "from")
    assert (len(absent), len(changed)) == (0, 24)


def test_compressai_forms_of_curves_are_read(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"name": "n", "results": {"bpp": [0.1, 0.2], "psnr-rgb": [27, 28]}}))
    assert read_published(str(file), []) == {"n": [(0.1, 27.0), (0.2, 28.0)]}
    file.write_text(json.dumps([{"name": "a", "points": [{"bpp": 1, "ms_ssim_db": 15}]}]))
    assert read_published(str(file), ["a"], "ms_ssim") == {"a": [(1.0, 15.0)]}
    with pytest.raises(InputError, match="did you mean 'a'"):
        read_published(str(file), ["aa"])


def test_compressai_architectures_code_and_say_that_weights_are_random():
    codec = get_codec("compressai:mbt2018-mean:1")
    assert codec.note.startswith("random weights")
    encoded = codec.encode(Picture(photo(64, 65)), 50, reconstruct=True)
    assert codec.decode(encoded.data) == encoded.reconstruction
    assert encoded.details["transform_s"] > 0
    with pytest.raises(StreamError):
        codec.decode(encoded.data[:-1])


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("compressai:nothing", UsageProblem, "no 'nothing' in compressai"),
        ("compressai:mbt2018-mean:9", UsageProblem, "has levels 1 to 8"),
        ("compressai:mbt2018-mean@int3:1", UsageProblem, "is not compressai:NAME"),
        ("compressai:mbt2018-mean:1:nowhere.pth", WeightsError, "no such checkpoint"),
        ("jpg", UsageProblem, "did you mean"),
        ("hyperprior@10", UsageProblem, "outside 1..9"),
        ("hyperprior@fast", UsageProblem, "no effort 'fast'"),
        ("vqgan@7", UsageProblem, "one effort only"),
    ],
)
def test_codec_names_that_do_not_exist_are_explained(name, error, text):
    with pytest.raises(error, match=text):
        get_codec(name)


def test_a_bd_rate_may_be_taken_over_a_part_of_the_range():
    from lic.evaluation.report import bd_table, compare

    low = [(0.1 * 2**i, 26.0 + 2 * i) for i in range(6)]
    # A fifth less below 31 dB, a fifth more above.
    high = [(r * (0.8 if v < 31 else 1.2), v) for r, v in low]
    curves = {"a": low, "b": high}
    below = compare(curves, "a", "psnr", (26.0, 29.0))["b"]
    above = compare(curves, "a", "psnr", (33.0, 40.0))["b"]
    assert below.percent == pytest.approx(-20, abs=2)
    assert above.percent == pytest.approx(20, abs=2)
    assert (below.low, below.high, above.high) == (26, 29, 36)
    told = bd_table("a", "psnr", {"b": below}, (26.0, 29.0))
    assert "within 26 to 29" in told


def test_a_range_begins_with_its_lower_end(tmp_path):
    from click.testing import CliRunner

    from lic.cli.main import cli
    from lic.errors import UsageProblem

    arguments = ["eval", "--dataset", str(tmp_path), "--between", "37", "26"]
    found = CliRunner().invoke(cli, arguments)
    assert isinstance(found.exception, UsageProblem)
    assert "the first must be the lower one" in str(found.exception)
