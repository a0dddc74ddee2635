"""Feed the decoder mutated files until time is up; anything but our own errors is a bug.

Usage: python scripts/fuzz.py [SECONDS]      (needs the ``fuzz`` extra: pip install -e '.[fuzz]')

Starts from the golden files. Half of the inputs get a correct checksum, as a hostile writer would
give them, so that the attack reaches sections, coder and networks.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lic"]):
    from lic import api
    from lic.container.envelope import seal
    from lic.errors import LicError

TESTS = Path(__file__).parent.parent / "tests"
MOST_PIXELS = 1 << 16
EXPECTED = (4, 5, 6)


def one_input(data: bytes) -> None:
    """Decode one file; the first byte says whether it is sealed, the rest is the file."""
    raw = data[1:]
    if data[:1] < b"\x80":
        raw = seal(raw[:-4])
    try:
        api.decode(raw, weights=TESTS / "weights", max_pixels=MOST_PIXELS)
    except LicError as error:
        if error.exit_code not in EXPECTED:
            raise


def main() -> None:
    """Run for the given number of seconds, 300 without one."""
    seconds = sys.argv[1] if len(sys.argv) > 1 else "300"
    with tempfile.TemporaryDirectory() as corpus:
        for file in (TESTS / "golden").glob("*.lic"):
            for sealed in (b"\0", b"\xff"):
                name = f"{file.stem}-{sealed.hex()}"
                (Path(corpus) / name).write_bytes(sealed + file.read_bytes())
        options = [
            f"-max_total_time={seconds}",
            "-timeout=60",
            "-max_len=4096",
            "-rss_limit_mb=4096",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
