"""What a user meets when something is wrong: one line, the right code, and nothing lost.

Numbers in comments are those of the project's list of reliability tests. Commands run in this
process where the outcome allows it; signals, full disks and closed streams need one of their own.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import WEIGHTS, photo
from PIL import Image

from lic import api
from lic.cli.main import _code
from lic.errors import OutputError, UsageProblem
from lic.files import atomic_write

LIC = [sys.executable, "-m", "lic"]


@pytest.fixture(autouse=True)
def tiny_weights(monkeypatch):
    monkeypatch.setenv("LIC_WEIGHTS", str(WEIGHTS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo(64, 64)).save("a.png")
    Path("a.lic").write_bytes(api.encode("a.png", quality=20))
    return tmp_path


@pytest.fixture
def lic(capfd):
    """Run a command in this process; returns its code and what it said on stderr."""

    def run(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        code = _code([str(a) for a in arguments])
        return code, capfd.readouterr().err

    return run


def one_line(outcome: tuple[int, str], code: int, *parts: str) -> None:
    found, text = outcome
    assert found == code, text
    assert text.startswith("lic: error: ")
    assert text.count("\n") == 1
    assert all(p in text for p in parts), text


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob(".*.tmp")]


# -- weights (10, 11, 12) -----------------------------------------------------------------------


def test_missing_weights_say_where_they_were_looked_for(folder, lic, monkeypatch):
    monkeypatch.setenv("LIC_WEIGHTS", str(folder))
    outcome = lic("decode", "a.lic", "-o", "x.png")
    one_line(outcome, 6, "fingerprint", "searched --weights, LIC_WEIGHTS, the package")
    assert not Path("x.png").exists()


def test_changed_weights_are_noticed(folder, lic):
    for file in WEIGHTS.iterdir():
        shutil.copy(file, folder)
    data = bytearray(Path("tiny-hyperprior.safetensors").read_bytes())
    data[-100] ^= 1
    Path("tiny-hyperprior.safetensors").write_bytes(data)
    outcome = lic("decode", "a.lic", "-o", "x.png", "--weights", "tiny-hyperprior.safetensors")
    one_line(outcome, 6, "SHA-256 differs")


def test_a_pickle_is_never_loaded(folder, lic):
    class Trap:
        def __reduce__(self):
            return (open, (str(folder / "executed"), "w"))

    shutil.copy(WEIGHTS / "tiny-hyperprior.json", folder)
    Path("tiny-hyperprior.safetensors").write_bytes(pickle.dumps(Trap()))
    outcome = lic("decode", "a.lic", "-o", "x.png", "--weights", "tiny-hyperprior.safetensors")
    one_line(outcome, 6, "not a safetensors file")
    assert not Path("executed").exists()


def test_weights_of_another_training_are_refused(folder, lic):
    card = json.loads((WEIGHTS / "tiny-hyperprior.json").read_text())
    Path("other").mkdir()
    shutil.copy(WEIGHTS / "tiny-hyperprior.safetensors", "other")
    card["fingerprint"] = "ab" * 32
    Path("other/tiny-hyperprior.json").write_text(json.dumps(card))
    outcome = lic("decode", "a.lic", "-o", "x.png", "--weights", "other")
    one_line(outcome, 6, "needs weights with fingerprint", "ababab")


# -- inputs (13, 14, 15, 26) --------------------------------------------------------------------


def test_a_folder_needs_an_output_folder_only_if_asked(folder, lic):
    assert lic("encode", folder, "-o", "out", "-q", 20)[0] == 0
    assert Path("out/a.lic").read_bytes() == Path("a.lic").read_bytes()


def test_a_fifo_is_read(folder, lic):
    os.mkfifo("pipe")
    data = Path("a.png").read_bytes()
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(data))
    writer.start()
    assert lic("encode", "pipe", "-o", "x.lic", "-q", 20)[0] == 0
    writer.join()
    assert Path("x.lic").read_bytes() == Path("a.lic").read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_input_is_named(folder, lic):
    Path("a.png").chmod(0)
    one_line(lic("encode", "a.png", "-o", "x.lic"), 3, "a.png: Permission denied")


def saved(image: Image.Image, name: str, **settings: object) -> str:
    image.save(name, **settings)
    return name


def unsupported(kind: str) -> str:
    rgb = Image.fromarray(photo(20, 30))
    if kind == "truncated":
        saved(rgb, "t.png")
        Path("t.png").write_bytes(Path("t.png").read_bytes()[:-200])
        return "t.png"
    if kind == "animation":
        return saved(rgb, "n.webp", save_all=True, append_images=[rgb.rotate(90)])
    if kind == "cmyk":
        return saved(rgb.convert("CMYK"), "c.jpg")
    if kind == "16 bits":
        return saved(Image.fromarray(np.full((9, 9), 40_000, np.uint16)), "d.png")
    rgb.putalpha(100)
    return saved(rgb, "alpha.png")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("truncated", "t.png: is"),
        ("animation", "is an animation or has several pages; extract one first"),
        ("cmyk", "has colour mode CMYK; convert it to RGB first"),
        ("16 bits", "has 16 bits a sample"),
        ("alpha", "has transparency (mode RGBA); flatten it first"),
    ],
)
def test_unsupported_pictures_say_so_and_what_to_do(folder, lic, kind, text):
    one_line(lic("encode", unsupported(kind), "-o", "x.lic"), 3, text)
    assert not Path("x.lic").exists()


def test_a_bomb_is_refused_by_its_header(folder, lic):
    size = (400_000).to_bytes(4, "big")
    chunks = [b"IHDR" + 2 * size + b"\x08\x02\0\0\0", b"IDAT" + bytes(20), b"IEND"]
    parts = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks]
    Path("bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    one_line(lic("encode", "bomb.png", "-o", "x.lic"), 5, "400000 x 400000 pixels exceed")


@pytest.mark.parametrize("mode", ["P", "1", "L"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (30, 20)])
def test_palettes_bitmaps_and_odd_sizes_work(folder, lic, mode, size):
    saved(Image.fromarray(photo(size[1], size[0])).convert(mode), "p.png")
    assert lic("encode", "p.png", "-o", "x.lic", "-q", 30)[0] == 0
    assert lic("decode", "x.lic", "-o", "y.png")[0] == 0
    with Image.open("y.png") as image:
        assert image.size == size
        # A palette of one pixel may hold a grey alone.
        assert image.mode == ("RGB" if mode == "P" else "L") or size == (1, 1)


def test_an_icc_profile_is_kept_and_srgb_and_exif_are_dropped(folder, lic):
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "maker"
    saved(Image.fromarray(photo(40, 40)), "s.jpg", icc_profile=srgb, exif=exif)
    assert lic("encode", "s.jpg", "-o", "s.lic")[0] == 0
    assert api.read_info("s.lic")["icc_bytes"] == 0
    assert api.read_info("s.lic")["exif_bytes"] == 0
    assert lic("encode", "s.jpg", "-o", "all.lic", "--metadata", "all")[0] == 0
    assert lic("decode", "all.lic", "-o", "all.jpg")[0] == 0
    with Image.open("all.jpg") as image:
        assert image.getexif()[0x010F] == "maker"


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_an_empty_or_closed_standard_input_is_named(folder, command):
    arguments = [*LIC, command, "-"] + (["-o", "x"] if command != "info" else [])
    for extra in ({"stdin": subprocess.DEVNULL}, {"preexec_fn": lambda: os.close(0)}):
        done = subprocess.run(arguments, capture_output=True, text=True, **extra)
        code = 3 if command == "encode" else 4
        one_line((done.returncode, done.stderr), code, "standard input: is empty")


def test_a_missing_input_is_named_once(folder, lic):
    one_line(lic("encode", "no.png"), 2, "lic: error: no.png: does not exist")
    one_line(lic("encode", "nowhere/no.png"), 2, "lic: error: nowhere/no.png: does not exist")
    one_line(lic("decode", "no.lic", "-o", "x.png"), 2, "lic: error: no.lic: does not exist")


def test_an_output_given_as_a_second_input_is_explained(folder, lic):
    one_line(lic("encode", "a.png", "new.lic"), 2, "did you mean '-o new.lic'?")
    one_line(lic("decode", "a.lic", "new.png"), 2, "did you mean '-o new.png'?")
    assert sorted(p.name for p in folder.iterdir()) == ["a.lic", "a.png"]


def test_files_that_differ_by_their_suffix_keep_it(folder, lic):
    saved(Image.fromarray(photo(40, 40)), "a.bmp")
    assert lic("encode", folder, "-o", "out", "-q", 20)[0] == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["a.bmp.lic", "a.png.lic"]


def test_hidden_files_and_folders_are_left_out(folder, lic):
    Path(".cache").mkdir()
    shutil.copy("a.png", ".cache/a.png")
    shutil.copy("a.png", ".b.png")
    assert lic("encode", folder, "-o", "out", "-q", 20)[0] == 0
    assert [p.name for p in Path("out").rglob("*")] == ["a.lic"]


# -- outputs (16 to 21) -------------------------------------------------------------------------


def test_a_link_stays_a_link(folder, lic):
    Path("target.lic").write_bytes(b"old")
    Path("link.lic").symlink_to("target.lic")
    assert lic("encode", "a.png", "-o", "link.lic", "--force", "-q", 20)[0] == 0
    assert Path("link.lic").is_symlink()
    assert Path("target.lic").read_bytes() == Path("a.lic").read_bytes()
    Path("dangling.lic").symlink_to("new.lic")
    assert lic("encode", "a.png", "-o", "dangling.lic", "-q", 20)[0] == 0
    assert Path("new.lic").exists()


def test_a_loop_of_links_is_an_output_error(folder, lic):
    Path("one").symlink_to("two")
    Path("two").symlink_to("one")
    one_line(lic("encode", "a.png", "-o", "one"), 7, "one")


def test_a_missing_output_folder_is_found_before_the_networks_load(folder):
    code = (
        "import sys\nfrom lic.cli.main import _code\n"
        "found = _code(['encode', 'a.png', '-o', 'a/b/x.lic'])\n"
        "sys.exit(100 if 'torch' in sys.modules else found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    one_line((done.returncode, done.stderr), 7, "folder 'a/b' does not exist")


def test_an_output_that_is_a_folder_of_that_name_gets_the_file(folder, lic):
    Path("out").mkdir()
    assert lic("encode", "a.png", "-o", "out", "-q", 20)[0] == 0
    assert Path("out/a.lic").exists()


def test_a_slash_at_the_end_means_a_folder(folder, lic):
    assert lic("encode", "a.png", "-o", "new/", "-q", 20)[0] == 0
    assert Path("new/a.lic").exists()


def test_a_lic_file_is_not_written_under_the_name_of_a_picture(folder, lic):
    shutil.copy("a.png", "other.jpg")
    one_line(lic("encode", "a.png", "-o", "other.jpg", "--force"), 2, "named like a picture")
    assert Path("other.jpg").read_bytes() == Path("a.png").read_bytes()


def test_several_pictures_do_not_go_into_a_folder_named_like_a_file(folder, lic):
    one_line(lic("encode", folder, "-o", "x.lic"), 2, "several pictures need a folder")


def test_classic_codecs_write_no_lic_files(folder, lic):
    one_line(lic("encode", "a.png", "-o", "x.lic", "--codec", "jpeg"), 2, "is for 'lic eval'")
    assert not Path("x.lic").exists()


def test_sizes_may_have_units(folder, lic):
    assert lic("encode", "a.png", "-o", "x.lic", "--target-size", "0.2kB")[0] == 0
    assert Path("x.lic").stat().st_size <= 200
    one_line(lic("encode", "a.png", "-o", "y.lic", "--target-size", "many"), 2, "20kB")


@pytest.mark.parametrize("arguments", [["--help"], ["encode", "--help"], ["models", "list"]])
def test_a_reader_that_is_gone_is_no_error_message(folder, arguments):
    gone, end = os.pipe()
    os.close(gone)
    done = subprocess.run([*LIC, *arguments], stdout=end, stderr=subprocess.PIPE)
    os.close(end)
    assert done.returncode == 1
    assert done.stderr == b""


def test_without_a_command_the_help_is_shown(lic):
    code, text = lic()
    assert code == 2
    assert text.count("\n") > 10
    assert "lic encode photo.jpg -o photo.lic -q 40\n" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_an_output_error(folder, lic):
    Path("closed").mkdir(mode=0o500)
    one_line(lic("encode", "a.png", "-o", "closed/x.lic"), 7, "not writable")


def test_a_full_disk_at_any_byte_leaves_the_old_output(folder, monkeypatch):
    data = Path("a.lic").read_bytes()
    Path("old.lic").write_bytes(b"old")
    write = os.write
    for room in range(0, len(data), 7):
        left = [room]

        def limited(handle: int, rest: bytes, left: list[int] = left) -> int:
            if not left[0]:
                raise OSError(28, "No space left on device")
            done = write(handle, bytes(rest[: left[0]]))
            left[0] -= done
            return done

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", limited)
            with pytest.raises(OutputError, match=r"old.lic: No space left on device") as error:
                atomic_write("old.lic", data, force=True)
        assert error.value.exit_code == 7
        assert Path("old.lic").read_bytes() == b"old"
    assert not leftovers(folder)


def test_a_file_size_limit_is_an_output_error(folder):
    def bounded() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    command = [*LIC, "decode", "a.lic", "-o", "x.png"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=bounded)
    one_line((done.returncode, done.stderr), 7, "x.png: File too large")
    assert not Path("x.png").exists()
    assert not leftovers(folder)


def test_a_full_standard_output_is_one_line(folder):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*LIC, "decode", "a.lic", "-o", "-"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    one_line((done.returncode, done.stderr), 7, "No space left on device")


def test_a_reader_that_leaves_early_is_no_traceback(folder):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)).save(
        "noise.png"
    )
    Path("noise.lic").write_bytes(api.encode("noise.png", quality=90))
    reader = subprocess.Popen(["head", "-c", "10"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    done = subprocess.run(
        [*LIC, "decode", "noise.lic", "-o", "-", "--quiet"],
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
    )
    with reader:
        assert reader.stdout.read().startswith(b"\x89PNG")
    assert done.returncode in (0, 1)
    assert done.stderr == b""


# -- interruptions (22 to 24) -------------------------------------------------------------------

SLOW = """
import os, sys, time
import lic.api
from lic.cli.main import run
def slow(*args):
    print("busy", flush=True)
    time.sleep(60)
lic.api.encode_picture = slow
run(sys.argv[1:])
"""

WRITING = """
import os, sys, time
from lic.cli.main import run
sync = os.fsync
def slow(handle):
    print("busy", flush=True)
    time.sleep(60)
os.fsync = slow
run(sys.argv[1:])
"""


def interrupted(program: str, number: int) -> subprocess.Popen:
    command = [sys.executable, "-c", program, "encode", "a.png", "-o", "x.lic", "--force"]
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell without job control starts background jobs deaf to it, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert child.stdout.readline() == "busy\n"
    child.send_signal(number)
    return child


@pytest.mark.parametrize("program", [SLOW, WRITING], ids=["coding", "writing"])
@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_interruptions_leave_nothing_behind(folder, program, number, code, text):
    Path("x.lic").write_bytes(b"old")
    child = interrupted(program, number)
    error = child.communicate(timeout=30)[1]
    one_line((child.returncode, error), code, text)
    assert Path("x.lic").read_bytes() == b"old"
    assert not leftovers(folder)


def test_a_killed_process_leaves_the_old_output_and_at_most_a_temporary_file(folder, lic):
    Path("x.lic").write_bytes(b"old")
    child = interrupted(WRITING, signal.SIGKILL)
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL
    assert Path("x.lic").read_bytes() == b"old"
    assert len(leftovers(folder)) <= 1
    assert lic("encode", "a.png", "-o", "x.lic", "--force", "-q", 20)[0] == 0
    assert Path("x.lic").read_bytes() == Path("a.lic").read_bytes()


def test_two_writers_of_one_output_leave_one_whole_file(folder):
    first, second = (bytes([n]) * 300_000 for n in (1, 2))
    for _ in range(20):
        threads = [
            threading.Thread(target=atomic_write, args=("x.lic", d), kwargs={"force": True})
            for d in (first, second)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Path("x.lic").read_bytes() in (first, second)
    assert not leftovers(folder)


def test_without_force_the_first_writer_wins(folder):
    atomic_write("x.lic", b"first", force=False)
    with pytest.raises(UsageProblem, match="exists; pass --force"):
        atomic_write("x.lic", b"second", force=False)
    assert Path("x.lic").read_bytes() == b"first"


def test_decodes_at_once_agree(folder):
    found = []
    threads = [threading.Thread(target=lambda: found.append(api.decode("a.lic"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(picture == found[0] for picture in found)


# -- surroundings (25, 27) ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["-dash.png", "two words.png", "naïve🦊.png", "new\nline.png"])
def test_any_file_name_works(folder, lic, name):
    shutil.copy("a.png", folder / name)
    assert lic("encode", "-q", 20, "--", name)[0] == 0
    assert Path(name).with_suffix(".lic").read_bytes() == Path("a.lic").read_bytes()


def test_surroundings_change_no_byte(folder):
    command = [*LIC, "encode", "a.png", "-q", "20", "-o"]
    environments = [
        {"LC_ALL": "C", "PYTHONHASHSEED": "1"},
        {"TZ": "Asia/Tokyo", "PYTHONHASHSEED": "2", "LIC_THREADS": "8"},
    ]
    for number, extra in enumerate(environments):
        environment = {k: v for k, v in os.environ.items() if k != "HOME"} | extra
        done = subprocess.run([*command, f"{number}.lic"], env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert Path(f"{number}.lic").read_bytes() == Path("a.lic").read_bytes()


def test_the_encoder_checks_itself_when_asked(folder, lic, monkeypatch):  # 30
    assert lic("encode", "a.png", "-o", "x.lic", "--check")[0] == 0
    from lic.codecs.hyperprior import HyperpriorCodec

    wrong = api.decode("a.lic")
    wrong.pixels[0, 0, 0] ^= 1
    monkeypatch.setattr(HyperpriorCodec, "decode", lambda *_args: wrong)
    one_line(lic("encode", "a.png", "-o", "y.lic", "--check"), 1, "does not decode to")
    assert not Path("y.lic").exists()


def test_an_evaluation_goes_on_where_it_was(folder, capsys, monkeypatch):  # 38
    from lic.evaluation import sweep

    Path("set").mkdir()
    for seed in range(3):
        Image.fromarray(photo(48, 64, seed)).save(f"set/{seed}.png")
    command = [
        "eval",
        "--dataset",
        "set",
        "--codec",
        "jpeg,webp",
        "-q",
        "20,50,80,90",
        "--out",
        "e",
    ]
    measure, count = sweep.measure, [0]

    def stop_after_five(*arguments):
        count[0] += 1
        if count[0] == 6:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(sweep, "measure", stop_after_five)
    assert _code(command) == 130
    assert not Path("e/summary.json").exists()
    assert len(Path("e/per_image.csv").read_text().splitlines()) == 6
    monkeypatch.setattr(sweep, "measure", measure)
    assert _code(command) == 0
    assert "kept from before" in capsys.readouterr().err
    assert len(Path("e/per_image.csv").read_text().splitlines()) == 1 + 2 * 4 * 3
    assert set(json.loads(Path("e/summary.json").read_text())) == {"jpeg", "webp", "meta"}
    assert "webp" in json.loads(Path("e/bd_rate.json").read_text())["codecs"]
    with Image.open("e/rd.png") as image:
        assert min(image.size) > 300
