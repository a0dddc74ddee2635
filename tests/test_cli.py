"""The command line on a small picture with the tiny weights: outcomes, exit codes, one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from PIL import Image

WEIGHTS = Path(__file__).parent / "weights"
LIC = [sys.executable, "-c", "from lic.cli.main import run; run()"]


def lic(*arguments: object, stdin: bytes | None = None, cwd: Path | None = None, **env: str):
    environment = os.environ | {"LIC_WEIGHTS": str(WEIGHTS), "OMP_NUM_THREADS": "1"} | env
    return subprocess.run(
        [*LIC, *map(str, arguments)], input=stdin, capture_output=True, cwd=cwd, env=environment
    )


def one_line(result, code: int, *parts: str) -> None:
    text = result.stderr.decode()
    assert result.returncode == code, text
    assert text.startswith("lic: error: ")
    assert text.count("\n") == 1
    assert all(p in text for p in parts), text


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    Image.fromarray(photo(64, 64)).save(path / "a.png")
    assert lic("encode", path / "a.png", "-q", "40").returncode == 0
    return path


def test_suffix_decides_nothing_on_reading(folder):
    assert lic("encode", folder / "a.png", "-o", folder / "b.bin", "-q", "40").returncode == 0
    assert (folder / "b.bin").read_bytes() == (folder / "a.lic").read_bytes()
    assert lic("decode", folder / "b.bin", "-o", folder / "b.png").returncode == 0
    assert pixels_of(folder / "b.png").shape == (64, 64, 3)


def test_pipe_equals_files(folder):
    data = lic("encode", "-", "-o", "-", "-q", 40, stdin=(folder / "a.png").read_bytes()).stdout
    assert data == (folder / "a.lic").read_bytes()
    png = lic("decode", "-", "-o", "-", stdin=data).stdout
    assert png.startswith(b"\x89PNG")


def test_another_process_decodes_what_the_encoder_reported(folder, tmp_path):
    from lic.codecs.registry import get_codec
    from lic.pictures import read_picture

    picture = read_picture((folder / "a.png").read_bytes(), name="a")
    codec = get_codec("hyperprior", weights=WEIGHTS)
    encoded = codec.encode(picture, 40, reconstruct=True)
    assert lic("decode", folder / "a.lic", "-o", tmp_path / "x.png").returncode == 0
    assert np.array_equal(pixels_of(tmp_path / "x.png"), encoded.reconstruction.pixels)


@pytest.mark.parametrize(("threads", "jobs"), [(1, 1), (2, 1), (1, 2)])
def test_threads_and_batches_change_no_byte(folder, tmp_path, threads, jobs):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes((folder / "a.png").read_bytes())
    result = lic("encode", tmp_path, "-o", tmp_path / "out", "-q", 40, "-j", jobs,
                 "--threads", threads)  # fmt: skip
    assert result.returncode == 0
    for name in ("a.lic", "b.lic"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / "a.lic").read_bytes()


def test_one_bad_file_does_not_stop_the_rest(folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    (tmp_path / "good.png").write_bytes((folder / "a.png").read_bytes())
    result = lic("encode", tmp_path, "-o", tmp_path / "out")
    assert result.returncode == 3
    assert b"1 of 2 done" in result.stderr
    assert (tmp_path / "out" / "good.lic").exists()


def test_targets_are_met(folder, tmp_path):
    out = tmp_path / "t.lic"
    assert lic("encode", folder / "a.png", "-o", out, "--target-size", 150).returncode == 0
    assert 100 < out.stat().st_size <= 150
    assert lic("encode", folder / "a.png", "-o", out, "-f", "--target-bpp", 0.25).returncode == 0
    assert out.stat().st_size <= 0.25 * 64 * 64 / 8
    result = lic("encode", folder / "a.png", "-o", out, "-f", "--target-psnr", 22, "--check")
    assert float(result.stderr.decode().split()[-2]) >= 22


def test_impossible_target_is_refused(folder, tmp_path):
    result = lic("encode", folder / "a.png", "-o", tmp_path / "t.lic", "--target-size", 10)
    one_line(result, 2, "quality 0 takes")
    assert not (tmp_path / "t.lic").exists()


def test_existing_output_needs_force(folder):
    before = (folder / "a.lic").read_bytes()
    one_line(lic("encode", folder / "a.png"), 2, "exists; pass --force")
    assert (folder / "a.lic").read_bytes() == before


@pytest.mark.parametrize("spelling", ["a.png", "./a.png", "link.png", "hard.png"])
def test_output_never_is_the_input(folder, spelling):
    if spelling == "link.png" and not (folder / spelling).exists():
        (folder / spelling).symlink_to("a.png")
    if spelling == "hard.png" and not (folder / spelling).exists():
        os.link(folder / "a.png", folder / spelling)
    result = lic("encode", "a.png", "-o", spelling, "--force", cwd=folder)
    one_line(result, 2, "input and output are the same file")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["decode", "a.png"], 4, "is PNG, not .lic; did you mean 'lic encode'?"),
        (["encode", "a.lic", "-o", "x.lic"], 3, "is a .lic file already"),
        (["encode", "missing.png"], 2, "does not exist"),
        (["encode", "a.png", "-o", "no/such/x.lic"], 7, "folder 'no/such' does not exist"),
        (["encode", "a.png", "-q", "101"], 2, "outside 0..100"),
        (["encode", "a.png", "-q", "5", "--target-bpp", "1"], 2, "give one of"),
        (["encode", "a.png", "-o", "x.lic", "--codec", "hyperprio"], 2, "hyperprior"),
        (["encode", "a.png", "-o", "x.lic", "--max-pixels", "100"], 5, "exceed --max-pixels"),
        (["decode", "a.lic", "-o", "x.docx"], 2, "suffix '.docx'"),
        (["decode", "a.lic", "-o", "x.png", "--weights", "nowhere"], 6, "no such weights"),
        (["encode", "-", "-o", "x.lic"], 3, "standard input: is empty"),
        (["decode", "-", "-o", "x.png"], 4, "standard input: is empty"),
        (["encode", "-", "-", "-o", "x.lic"], 2, "only once"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line_and_their_code(folder, arguments, code, text):
    one_line(lic(*arguments, cwd=folder, stdin=b""), code, text)
    assert not (folder / "x.lic").exists()


def test_info_prints_the_header_as_json(folder):
    result = lic("info", folder / "a.lic", "--json")
    values = json.loads(result.stdout)
    assert (values["width"], values["height"], values["family"]) == (64, 64, "hyperprior")
    assert values["bytes"] == (folder / "a.lic").stat().st_size


@pytest.mark.parametrize("arguments", [["--help"], ["info", "a.lic"], ["encode", "--help"]])
def test_light_commands_do_not_import_torch(folder, arguments):
    code = (
        "import sys\nfrom lic.cli.main import cli\n"
        f"cli.main({arguments!r}, standalone_mode=False)\n"
        "sys.exit(10 if 'torch' in sys.modules else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True)
    assert result.returncode == 0, result.stderr


def test_models_list_and_verify():
    assert b"tiny-hyperprior" in lic("models", "list").stdout
    result = lic("models", "verify", "tiny-hyperprior")
    assert result.returncode == 0, result.stderr
    assert b"as in the card" in result.stdout


def test_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo(40, 60)).save(tmp_path / "turned.jpg", exif=exif)
    assert lic("encode", tmp_path / "turned.jpg").returncode == 0
    info = json.loads(lic("info", tmp_path / "turned.lic", "--json").stdout)
    assert (info["width"], info["height"]) == (40, 60)


@pytest.mark.parametrize("codec", ["acgc", "vqgan"])
def test_a_family_without_such_weights_says_so(codec, folder, tmp_path):
    target = tmp_path / "x.lic"
    found = lic("encode", folder / "a.png", "-o", target, "--codec", codec, "--tune", "eyes")
    one_line(found, 2, "tune", codec)
    assert not target.exists()


def test_info_names_the_weights_where_they_are(folder, tmp_path):
    told = lic("info", folder / "a.lic").stdout.decode()
    assert "(tiny-hyperprior)" in told
    (tmp_path / "broken.json").write_text("{")
    for weights in (tmp_path, tmp_path / "none"):
        told = lic("info", folder / "a.lic", LIC_WEIGHTS=str(weights))
        assert told.returncode == 0
        assert b"(not here)" in told.stdout
