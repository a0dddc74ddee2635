"""The rows of a sweep over lossy channels, and the files that keep them between two runs.

``per_loss.csv`` has a row a reception, ``per_loss.json`` what the rows depend on: settings, senders
and pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lic.channel.channel import Channel
from lic.evaluation.tables import GrowingCsv
from lic.files import atomic_write

__all__ = ["COLUMNS", "Case", "LossRow", "LossStore"]

COLUMNS = (
    "sender",
    "conceal",
    "loss",
    "burst",
    "seed",
    "image",
    "packets",
    "wire_bytes",
    "bpp",
    "lost",
    "distance",
    "shown",
)
"""Of ``per_loss.csv``, before those of the metrics."""


@dataclass(frozen=True, order=True)
class Case:
    """A kind of channel.

    Attributes:
        loss: Share of datagrams lost, 0..1.
        burst: Mean number lost in a row; 0 loses them independently.
    """

    loss: float
    burst: float = 0.0

    def channel(self) -> Channel:
        """Return it."""
        return Channel(loss=self.loss, burst=self.burst if self.burst and self.loss else None)

    def __str__(self) -> str:
        kind = f"bursts of {self.burst:g}" if self.burst else "independent"
        return f"{100 * self.loss:g} % {kind}"


@dataclass(frozen=True)
class LossRow:
    """One picture over one channel once, shown by one concealer.

    Attributes:
        sender, conceal: Names.
        case, seed: The channel.
        image: File name.
        packets, wire_bytes: Datagrams sent and their bytes, headers included.
        bpp: Of these bytes.
        lost: Share of indices or bytes that did not arrive.
        distance: See :class:`lic.evaluation.senders.Shown`.
        shown: Whether there was anything to show.
        metrics: By name of ``METRICS``.
    """

    sender: str
    conceal: str
    case: Case
    seed: int
    image: str
    packets: int
    wire_bytes: int
    bpp: float
    lost: float
    distance: float | None
    shown: bool
    metrics: dict[str, float | None]

    def line(self) -> dict[str, object]:
        """Return the line of ``per_loss.csv``; numbers keep all their digits."""
        own = {c: getattr(self, c) for c in COLUMNS if c not in ("loss", "burst")}
        case = {"loss": self.case.loss, "burst": self.case.burst, "shown": int(self.shown)}
        found = own | case | self.metrics
        return {name: "" if value is None else value for name, value in found.items()}


class LossStore:
    """The rows of one folder by picture.

    Rows of other settings or of another picture of that name are dropped, and so are those of a
    picture that was not finished.

    Args:
        folder: Exists.
        metrics: Of each row.
        state: What rows depend on beside the picture.
        pictures: State of each picture of this run by its file name.
        fresh: Start anew.
    """

    def __init__(
        self,
        folder: Path,
        metrics: Sequence[str],
        state: str,
        pictures: dict[str, str],
        *,
        fresh: bool = False,
    ):
        self._metrics = tuple(metrics)
        self._table = GrowingCsv(folder / "per_loss.csv", (*COLUMNS, *metrics))
        self._path = folder / "per_loss.json"
        self._state = hashlib.sha256(state.encode()).hexdigest()
        self._pictures = pictures
        self.rows: dict[str, list[LossRow]] = {}
        if not fresh:
            self._reuse()
        # Rows first: cut off in between, the old state still fits to what is left of them.
        self._table.replace(r.line() for rows in self.rows.values() for r in rows)
        self._save()

    def add(self, image: str, rows: list[LossRow]) -> None:
        """Keep the rows of a picture, on disk too; it counts as finished when they are there."""
        self._table.append(r.line() for r in rows)
        self.rows[image] = rows
        self._save()

    def _save(self) -> None:
        done = {image: self._pictures[image] for image in self.rows}
        text = json.dumps({"state": self._state, "pictures": done}, indent=1)
        atomic_write(str(self._path), text.encode(), force=True)

    def _reuse(self) -> None:
        try:
            old = json.loads(self._path.read_text(encoding="utf-8"))
            done = dict(old["pictures"]) if old["state"] == self._state else {}
        except (OSError, ValueError, KeyError, TypeError):
            return
        current = {i for i, state in done.items() if self._pictures.get(i) == state}
        for line in self._table.read():
            row = self._parse(line) if line["image"] in current else None
            if row is not None:
                self.rows.setdefault(row.image, []).append(row)

    def _parse(self, line: dict[str, str]) -> LossRow | None:
        def number(name: str) -> Any:
            return float(line[name]) if line[name] else None

        try:
            return LossRow(
                sender=line["sender"],
                conceal=line["conceal"],
                case=Case(float(line["loss"]), float(line["burst"])),
                seed=int(line["seed"]),
                image=line["image"],
                packets=int(line["packets"]),
                wire_bytes=int(line["wire_bytes"]),
                bpp=float(line["bpp"]),
                lost=float(line["lost"]),
                distance=number("distance"),
                shown=line["shown"] == "1",
                metrics={m: number(m) for m in self._metrics},
            )
        except ValueError:
            return None
