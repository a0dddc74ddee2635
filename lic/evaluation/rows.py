"""The rows of a sweep and the files that keep them from one run to the next.

``per_image.csv`` has a row a picture, ``details.csv`` what codecs tell beside it (bits of parts,
seconds of parts), ``rows.json`` the state of codecs and pictures that the rows belong to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lic.evaluation.metrics import METRICS
from lic.evaluation.tables import GrowingCsv
from lic.files import atomic_write

__all__ = ["COLUMNS", "Row", "RowStore"]

COLUMNS = (
    "codec",
    "quality",
    "image",
    "width",
    "height",
    "bytes",
    "bpp",
    *METRICS,
    "encode_s",
    "decode_s",
)
"""Of ``per_image.csv``."""

_DETAIL_COLUMNS = ("codec", "quality", "image", "name", "value")

Key = tuple[str, float, str]


@dataclass(frozen=True)
class Row:
    """One picture through one codec at one quality.

    Attributes:
        codec, quality, image: What was done.
        width, height: Pixels.
        bytes: Of the whole file.
        metrics: Value by name of ``METRICS``, ``None`` where one is not defined; PSNR is infinite
            for an exact copy.
        encode_s, decode_s: Seconds, networks loaded before.
        details: Numbers that the codec told.
    """

    codec: str
    quality: float
    image: str
    width: int
    height: int
    bytes: int
    metrics: dict[str, float | None]
    encode_s: float
    decode_s: float
    details: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.codec, self.quality, self.image

    @property
    def bpp(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.bytes / (self.width * self.height)

    def has(self, names: Sequence[str]) -> bool:
        """Tell whether all these metrics were measured, as far as the picture's size allows."""
        side = min(self.width, self.height)
        return all(self.metrics.get(n) is not None or side < METRICS[n].least_side for n in names)

    def line(self) -> dict[str, Any]:
        """Return the line of ``per_image.csv``."""
        found = {name: self.metrics.get(name) for name in METRICS}
        values = {name: "" if v is None else v for name, v in found.items()}
        own = {c: getattr(self, c) for c in COLUMNS if c not in METRICS}
        return own | {"bpp": round(self.bpp, 6), "quality": f"{self.quality:g}"} | values

    def detail_lines(self) -> list[dict[str, Any]]:
        """Return the lines of ``details.csv``."""
        key = {"codec": self.codec, "quality": f"{self.quality:g}", "image": self.image}
        return [key | {"name": name, "value": value} for name, value in self.details.items()]


class RowStore:
    """The rows of one folder of results.

    Rows that an earlier run measured on another picture of that name, or with another state of
    their codec (weights, library, settings, threads), are dropped and measured again.

    Args:
        folder: Exists.
        identities: State of each codec of this run by its name.
        pictures: Digest of each picture of this run by its file name.
        fresh: Start anew.
    """

    def __init__(
        self,
        folder: Path,
        identities: dict[str, str],
        pictures: dict[str, str],
        *,
        fresh: bool = False,
    ):
        self._rows = GrowingCsv(folder / "per_image.csv", COLUMNS)
        self._details = GrowingCsv(folder / "details.csv", _DETAIL_COLUMNS)
        state_path = folder / "rows.json"
        state = {} if fresh else _read_state(state_path)
        known_codecs = state.get("codecs", {})
        known_pictures = state.get("pictures", {})
        now_codecs, now_pictures = known_codecs | identities, known_pictures | pictures
        self.rows: dict[Key, Row] = {}
        for row in self._stored():
            codec, picture = known_codecs.get(row.codec), known_pictures.get(row.image)
            current = (codec, picture) == (now_codecs.get(row.codec), now_pictures.get(row.image))
            if current and codec and picture:
                self.rows[row.key] = row
        # Rows first: cut off in between, the old state still fits to what is left of them.
        self._rows.replace(r.line() for r in self.rows.values())
        self._details.replace(d for r in self.rows.values() for d in r.detail_lines())
        new_state = json.dumps({"codecs": now_codecs, "pictures": now_pictures}, indent=1)
        atomic_write(str(state_path), new_state.encode(), force=True)

    def add(self, row: Row) -> None:
        """Keep a row, on disk too; its details go first, so that a row never lacks them."""
        self._details.append(row.detail_lines())
        self._rows.append([row.line()])
        self.rows[row.key] = row

    def _stored(self) -> Iterable[Row]:
        details: dict[Key, dict[str, float]] = {}
        for line in self._details.read():
            value = _number(line["value"])
            quality = _number(line["quality"])
            if value is not None and quality is not None:
                key = (line["codec"], quality, line["image"])
                details.setdefault(key, {})[line["name"]] = value
        rows = map(_parse, self._rows.read())
        return [replace(r, details=details.get(r.key, {})) for r in rows if r is not None]


def _read_state(path: Path) -> dict[str, dict[str, str]]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parse(line: dict[str, str]) -> Row | None:
    """Return the row of a line, ``None`` where it is not one; it will be measured again."""
    try:
        return Row(
            codec=line["codec"],
            quality=float(line["quality"]),
            image=line["image"],
            width=int(line["width"]),
            height=int(line["height"]),
            bytes=int(line["bytes"]),
            metrics={name: float(line[name]) if line[name] else None for name in METRICS},
            encode_s=float(line["encode_s"]),
            decode_s=float(line["decode_s"]),
        )
    except ValueError:
        return None
