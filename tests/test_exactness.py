"""The promise of equal symbols, tried across instruction sets with the weights that ship."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import photo
from PIL import Image

SCRIPT = Path(__file__).parent.parent / "scripts" / "exactness.py"


@pytest.mark.parametrize(
    "family", ["hyperprior", "acgc", pytest.param("segpic", marks=pytest.mark.slow)]
)
def test_the_loop_is_the_same_however_it_is_computed_and_the_controls_are_not(tmp_path, family):
    Image.fromarray(photo(512, 512, 4)).save(tmp_path / "a.png")
    command = [sys.executable, SCRIPT, tmp_path, "80", family]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    promised = [v for k, v in lines.items() if not k.startswith("control")]
    assert len([v for v in promised if v.strip().startswith("0 of")]) >= 10
