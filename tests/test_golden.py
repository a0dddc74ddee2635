"""Files of every released format version decode for ever to the symbols and pixels they had.

``LIC_REGENERATE=1`` writes missing golden files; it never replaces one. A change of the format adds
files of its version and keeps the old ones.
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import FAMILIES, photo, tiny_codec
from PIL import Image

from lic.container import parse_stream
from lic.pictures import Picture

GOLDEN = Path(__file__).parent / "golden"
COMMON = {
    "rgb": (Picture(photo(64, 64)), 30, {}),
    "odd": (Picture(photo(33, 65)), 70, {}),
    "grey": (Picture(photo(40, 24)[:, :, :1].repeat(3, 2), grey=True), 50, {}),
    "profile": (Picture(photo(16, 48), icc=b"not a real profile"), 10, {}),
}
GAIN_MAP = (
    Picture(photo(80, 70)),
    40,
    {"gain_map": np.array([[60, 0], [0, -30]], np.int8)},
)
OF_FAMILY = {
    "hyperprior": {"gain-map": GAIN_MAP},
    "acgc": {"gain-map": GAIN_MAP},
    "segpic": {"gain-map": GAIN_MAP},
    "vqgan": {
        "static": (Picture(photo(80, 70)), 40, {"index_coder": "static"}),
        "uniform": (Picture(photo(80, 70)), 0, {"index_coder": "uniform", "codebook_size": 32}),
    },
}


def cases(family: str) -> dict[str, tuple[Picture, int, dict]]:
    return COMMON | OF_FAMILY[family]


def _regenerate(family: str) -> None:
    codec = tiny_codec(family)
    for name, (picture, quality, options) in cases(family).items():
        target = GOLDEN / f"v0-{family}-{name}.lic"
        if target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        data = codec.encode(picture, quality, **options).data
        shown = codec.decode(data).pixels
        Image.fromarray(shown).save(target.with_suffix(".png"), optimize=True)
        mse = np.mean((shown.astype(float) - picture.pixels) ** 2)
        facts = {
            "symbol_check": parse_stream(data).symbol_check,
            "psnr": round(float(10 * np.log10(255**2 / mse)), 3),
        }
        target.with_suffix(".json").write_text(json.dumps(facts) + "\n")
        target.write_bytes(data)


if os.environ.get("LIC_REGENERATE"):
    for family in FAMILIES:
        _regenerate(family)


def files() -> list[Path]:
    return sorted(GOLDEN.glob("*.lic"))


def test_there_are_golden_files_of_every_family():
    for family in FAMILIES:
        assert len([f for f in files() if f"-{family}-" in f.name]) >= len(cases(family))


@pytest.mark.parametrize("file", files(), ids=lambda f: f.stem)
def test_golden_file_decodes_as_ever(file):
    family = file.stem.split("-")[1]
    facts = json.loads(file.with_suffix(".json").read_text())
    data = file.read_bytes()
    # The decoder compares the symbols with the check that the file carries.
    assert parse_stream(data).symbol_check == facts["symbol_check"]
    shown = tiny_codec(family).decode(data)
    with Image.open(io.BytesIO(file.with_suffix(".png").read_bytes())) as image:
        stored = np.asarray(image).astype(int)
    assert np.abs(shown.pixels - stored).max() <= 2
    original = cases(family)[file.stem.split("-", 2)[2]][0]
    mse = np.mean((shown.pixels.astype(float) - original.pixels) ** 2)
    assert 10 * np.log10(255**2 / mse) == pytest.approx(facts["psnr"], abs=0.01)
