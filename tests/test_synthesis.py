"""Another synthesis for the same files: trained, found, used only when asked for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import SMALL, WEIGHTS, photo, tiny_codec
from PIL import Image

import lic
from lic.cli.main import cli
from lic.codecs.plan import Plan
from lic.codecs.rates import rate_bytes
from lic.codecs.registry import get_codec
from lic.codecs.side import Side
from lic.codecs.synthesis import SynthesisCodec, find_synthesis
from lic.container import parse_stream, write_stream
from lic.errors import StreamError, UsageProblem, WeightsError
from lic.networks.hyperprior import HyperpriorShape, synthesis_alone
from lic.pictures import Picture
from lic.training.config import (
    DataConfig,
    EyesConfig,
    OptimiserConfig,
    Recipe,
    SynthesisConfig,
)
from lic.training.loop import train
from lic.training.synthesis import SynthesisTask
from lic.training.task import Progress
from lic.training.weights import export_run, initial_state
from lic.weights import find_weights
from lic.weights.store import list_cards, save_weights

TINY = WEIGHTS / "tiny-hyperprior.safetensors"
SMALLER = {"fine": 8, "coarse": 8, "synthesis": [0, 1]}


def recipe(**synthesis) -> Recipe:
    return Recipe(
        family="synthesis-fast",
        network=SMALLER,
        rdo_weight=20,
        synthesis=SynthesisConfig(codec=str(TINY), **synthesis),
        data=DataConfig(crop=64, batch=4, late_part=0.0, valid_pictures=2),
        optimiser=OptimiserConfig(name="muon", lr=1e-3, muon_lr=3e-3, warmup=2, ema=0.9),
        validate_every=60,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the test weights of hyperprior and a trained small synthesis for them."""
    place = tmp_path_factory.mktemp("fast")
    pictures = place / "pictures"
    pictures.mkdir()
    for seed in range(3):
        Image.fromarray(photo(160, 192, seed)).save(pictures / f"{seed}.png")
    where, silent = [str(pictures)], {"report": lambda line: None}
    train(recipe(), place / "run", where, where, 1.0, **silent)
    train(recipe(), place / "run", where, where, 1.5, resume=True, **silent)
    export_run(place / "run", place, name="tiny-fast")
    for suffix in (".json", ".safetensors"):
        shutil.copy(TINY.with_suffix(suffix), place)
    return place


@pytest.fixture
def file(picture) -> bytes:
    return tiny_codec("hyperprior").encode(picture, 60).data


def test_a_small_synthesis_shows_nearly_the_same(folder, file, picture):
    whole = lic.decode(file, weights=folder)
    fast = lic.decode(file, weights=folder, fast=True)
    assert fast.pixels.shape == whole.pixels.shape
    assert fast != whole
    apart = np.abs(fast.pixels.astype(int) - whole.pixels).mean()
    assert apart < 8
    assert lic.decode(file, weights=folder) == whole


@pytest.fixture(scope="module")
def natural(folder, tmp_path_factory) -> Path:
    """A folder that also has a synthesis with a look of its own."""
    place = tmp_path_factory.mktemp("natural")
    for path in folder.glob("tiny-*"):
        shutil.copy(path, place)
    where = [str(folder / "pictures")]
    wanted = replace(
        recipe(adversarial=0.2, adversarial_from=0.3),
        family="synthesis-natural",
        loss="eyes",
        eyes=EyesConfig(squared=0.5, ssimulacra2=0.5),
    )
    told: list[str] = []
    train(wanted, place / "run", where, where, 2.0, report=told.append)
    train(wanted, place / "run", where, where, 2.5, resume=True, report=told.append)
    assert any("adversary" in line for line in told)
    assert "ssimulacra2" in told[-1]
    export_run(place / "run", place, name="tiny-natural")
    return place


def test_a_look_can_be_chosen_and_mixed(natural, file):
    def shown(**options) -> np.ndarray:
        return lic.decode(file, weights=natural, **options).pixels.astype(int)

    faithful, whole = shown(), shown(look="natural")
    assert not np.array_equal(faithful, whole)
    assert np.array_equal(shown(look="natural", realism=1), whole)
    assert np.array_equal(shown(look="natural", realism=0), faithful)
    half = shown(look="natural", realism=0.5)
    between = np.abs(2 * half - faithful - whole)
    inside = (np.minimum(faithful, whole) > 0) & (np.maximum(faithful, whole) < 255)
    assert between[inside].max() <= 2
    assert np.array_equal(shown(look="faithful"), faithful)
    codec = get_codec("hyperprior:natural", weights=natural)
    assert np.array_equal(codec.decode(file).pixels, whole)
    assert codec.blended(0.5).decode(file) == lic.decode(
        file, weights=natural, look="natural", realism=0.5
    )


def largest_seam(codec: SynthesisCodec) -> int:
    """Return how far, in levels, a picture in strips is from one that was shown as a whole."""
    plan = Plan(1600, 1040)
    y_hat = torch.randn(1, codec.codec.model.shape.latents, *plan.grid).round()
    rate = rate_bytes(120, None, plan.grid)
    shown = codec.shown.decode_picture(y_hat, Side(), rate, plan).astype(int)
    with torch.inference_mode():
        levels = codec.shown._levels(y_hat, rate, Side(), (0, plan.grid[0]))
    whole = (levels + 127.5).round().clamp(0, 255)[0].permute(1, 2, 0).numpy().astype(int)
    return int(np.abs(shown - whole[:1600, :1040]).max())


def test_a_mixture_in_strips_leaves_no_seam(natural):
    codec = get_codec("hyperprior:natural", weights=natural).blended(0.5)
    assert largest_seam(codec) <= 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"look": "nice"}, "not one of faithful, natural"),
        ({"look": "natural", "fast": True}, "leave one out"),
        ({"realism": 0.5}, "goes with the look"),
        ({"look": "natural", "realism": 1.5}, "outside 0..1"),
        ({"look": "natural"}, "no natural synthesis was made"),
    ],
)
def test_looks_that_cannot_be_had(options, says, file):
    with pytest.raises(UsageProblem, match=says):
        lic.decode(file, weights=WEIGHTS, **options)


def test_the_command_mixes_looks(natural, file, tmp_path):
    (tmp_path / "a.lic").write_bytes(file)
    call = ["decode", str(tmp_path / "a.lic"), "--weights", str(natural), "--look", "natural"]
    result = CliRunner().invoke(cli, [*call, "--realism", "0.25"])
    assert result.exit_code == 0, result.output
    expected = lic.decode(file, weights=natural, look="natural", realism=0.25).pixels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), expected)


def test_files_are_those_of_the_codec(folder, picture, file):
    codec = get_codec("hyperprior:fast", weights=folder)
    assert codec.name == "hyperprior:fast"
    encoded = codec.encode(picture, 60, reconstruct=True)
    assert encoded.data == file
    assert (
        encoded.reconstruction == codec.decode(file) == lic.decode(file, weights=folder, fast=True)
    )
    assert [e.data for e in codec.encode_many([picture] * 2, 60)] == [file] * 2
    assert list(codec.decode_many([file])) == [encoded.reconstruction]


def test_symbols_are_still_checked(folder, file):
    stream = parse_stream(file)
    object.__setattr__(stream, "symbol_check", stream.symbol_check ^ 1)
    with pytest.raises(StreamError, match="symbols differ"):
        lic.decode(write_stream(stream), weights=folder, fast=True)


def test_the_command_decodes_folders(folder, file, tmp_path):
    coded = tmp_path / "coded"
    coded.mkdir()
    for name in "ab":
        (coded / f"{name}.lic").write_bytes(file)
    call = ["decode", str(coded), "-o", str(tmp_path / "shown"), "--weights", str(folder), "--fast"]
    result = CliRunner().invoke(cli, call)
    assert result.exit_code == 0, result.output
    fast = lic.decode(file, weights=folder, fast=True).pixels
    for name in "ab":
        assert np.array_equal(np.asarray(Image.open(tmp_path / "shown" / f"{name}.png")), fast)


@pytest.mark.parametrize("family", ["hyperprior", "vqgan"])
def test_without_a_small_synthesis_nothing_is_shown(family, picture):
    data = tiny_codec(family).encode(picture, 50).data
    with pytest.raises(
        UsageProblem, match=f"no fast synthesis was made for weights .* of '{family}'"
    ):
        lic.decode(data, weights=WEIGHTS, fast=True)


def test_without_a_small_synthesis_the_command_says_so_in_a_line(file, tmp_path):
    (tmp_path / "a.lic").write_bytes(file)
    call = [sys.executable, "-m", "lic", "decode", "a.lic", "--weights", str(WEIGHTS), "--fast"]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lic: error: a.lic: no fast synthesis was made")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_packets_have_one_synthesis(picture):
    packets = lic.encode(picture, codec="vqgan", packets=True, weights=WEIGHTS)
    with pytest.raises(UsageProblem, match="leave 'fast' and 'look' out"):
        lic.decode(packets, weights=WEIGHTS, fast=True)


def test_a_synthesis_for_other_files_is_not_used(folder, file, tmp_path):
    for path in folder.glob("tiny-*"):
        shutil.copy(path, tmp_path)
    card = json.loads((tmp_path / "tiny-fast.json").read_text())
    card["fingerprint"] = "00" * 32
    (tmp_path / "tiny-fast.json").write_text(json.dumps(card))
    with pytest.raises(UsageProblem, match="no fast synthesis"):
        lic.decode(file, weights=tmp_path, fast=True)


def test_a_damaged_synthesis_stops_only_who_asks_for_it(folder, file, tmp_path):
    for path in folder.glob("tiny-*"):
        shutil.copy(path, tmp_path)
    with (tmp_path / "tiny-fast.safetensors").open("ab") as weights:
        weights.write(b"x")
    lic.decode(file, weights=tmp_path)
    with pytest.raises(WeightsError, match="SHA-256"):
        lic.decode(file, weights=tmp_path, fast=True)


def test_a_synthesis_of_another_shape_is_told(folder, tmp_path):
    task = SynthesisTask(recipe())
    other = HyperpriorShape(**SMALL["hyperprior"] | {"latents": 8})
    model = synthesis_alone(other)
    card = save_weights(tmp_path, *task.export(model, "tiny-other", {}, None))
    with pytest.raises(WeightsError, match="other latents"):
        SynthesisCodec(tiny_codec("hyperprior"), card)


def test_models_are_listed_and_verified(folder, monkeypatch):
    monkeypatch.setenv("LIC_WEIGHTS", str(folder))
    assert "synthesis-fast" in {c.family for c in list_cards()}
    assert "tiny-fast" in CliRunner().invoke(cli, ["models", "list"]).output
    told = CliRunner().invoke(cli, ["models", "verify", "tiny-fast", "tiny-hyperprior"])
    assert told.exit_code == 0
    assert "tiny-fast: decides nothing about symbols" in told.output


def test_strips_of_a_small_synthesis_leave_no_seam(folder):
    codec = get_codec("hyperprior:fast", weights=folder)
    assert codec.shown.halo < codec.codec.halo
    assert largest_seam(codec) <= 1


def test_only_the_small_synthesis_learns():
    x = torch.from_numpy(np.stack([photo(64, 64, s) for s in range(2)])).permute(0, 3, 1, 2)
    rate = torch.tensor([0.2, 0.8])
    found = []
    for part in (0.0, 0.5, 1.0):
        task = SynthesisTask(recipe(distillation=part))
        torch.manual_seed(2)
        model = task.build([])
        task.prepare(model, torch.device("cpu"))
        loss, figures = task.loss(model, x, rate, Progress(0, 0.0))
        loss.backward()
        assert all(p.grad is None for p in task.codec.parameters())
        assert all(p.grad is not None for p in model.parameters())
        assert "psnr" in figures
        found.append(float(loss.detach()))
    plain, both, distilled = found
    assert both == pytest.approx((plain + distilled) / 2, rel=1e-4)
    assert distilled < plain


def test_training_sees_the_latents_of_the_decoder():
    pixels = photo(128, 128, 4)
    trace = tiny_codec("hyperprior").traces(Picture(pixels), 60)[0][0]
    task = SynthesisTask(recipe())
    levels = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() - 127.5
    rate = torch.full((1,), round(2.55 * 60) / 255)
    y_hat, _ = task.latents(levels, rate)
    steps = y_hat * task.codec.log_gains(rate).exp()
    # Prices are those of Gaussian tables, so that a few symbols are the next ones.
    assert (steps - trace.y_hat.float()).abs().max() < 1.5
    assert (steps - trace.y_hat.float()).abs().mean() < 0.1


def test_training_starts_from_whole_codecs_and_from_itself(folder):
    task = SynthesisTask(recipe())
    fresh = task.build([]).state_dict()
    own = task.codec.g_s.linear.weight
    assert torch.equal(fresh["g_s.linear.weight"], own)
    whole = initial_state(str(TINY), recipe())
    assert whole.adopted
    changed = {k: v + 1 for k, v in whole.state.items()}
    grown = task.grow(changed, whole.shape, fresh)
    assert torch.equal(grown["g_s.linear.weight"], own)
    assert torch.equal(grown["g_s.out.bias"], changed["g_s.out.bias"])
    assert grown["g_s.out.weight"].shape == fresh["g_s.out.weight"].shape
    again = initial_state(str(folder / "tiny-fast.safetensors"), recipe())
    assert not again.adopted
    grown = task.grow(again.state, again.shape, fresh)
    assert torch.equal(grown["g_s.linear.weight"], again.state["g_s.linear.weight"])


def test_recipes_that_do_not_fit_are_refused():
    with pytest.raises(UsageProblem, match="known: mse, eyes"):
        SynthesisTask(Recipe(family="synthesis-fast", loss="ms-ssim"))
    with pytest.raises(UsageProblem, match=r"network\.latents is 16"):
        SynthesisTask(
            Recipe("synthesis-fast", network={"latents": 8}, synthesis=recipe().synthesis)
        )


def test_unknown_syntheses_are_named():
    with pytest.raises(UsageProblem, match="no natural synthesis"):
        find_synthesis(find_weights("hyperprior", path=TINY), "natural")
    with pytest.raises(UsageProblem, match="no natural synthesis"):
        get_codec("hyperprior:natural", weights=WEIGHTS)


def test_a_card_names_weights_and_no_place(folder):
    card = json.loads((folder / "tiny-fast.json").read_text())
    assert card["training"]["runs"][-1]["recipe"]["synthesis"]["codec"] == "tiny-hyperprior"
