"""A CSV file that grows line by line and survives being cut off in the middle of one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lic.files import atomic_write

__all__ = ["GrowingCsv"]


class GrowingCsv:
    """Lines of named columns.

    Args:
        path: Of the file; it need not exist.
        columns: Names in their order.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path = path
        self.columns = tuple(columns)

    def read(self) -> Iterator[dict[str, str]]:
        """Yield the finished lines of the file; nothing where it has other columns.

        Columns that the file lacks, from before they were added, are empty.
        """
        if not self.path.exists():
            return
        text = self.path.read_text(encoding="utf-8", errors="replace")
        # A line that was being written when the program ended has no end.
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
        if not reader.fieldnames or not set(reader.fieldnames) <= set(self.columns):
            return
        for line in reader:
            if None not in line and None not in line.values():
                yield {name: line.get(name, "") for name in self.columns}

    def replace(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the file anew, as a whole or not at all."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        atomic_write(str(self.path), text.getvalue().encode(), force=True)

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines at the end, handed to the system before this returns."""
        text = io.StringIO()
        csv.DictWriter(text, self.columns, lineterminator="\n").writerows(lines)
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(text.getvalue())
