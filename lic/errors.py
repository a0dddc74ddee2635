"""The one hierarchy of errors. ``lic.cli`` maps each class to its exit code; nothing else exits.

A message reads ``FILE: fact; what to do``: the place first, then what was found, then a way out
where one is certain. The text never spans lines.
"""

from __future__ import annotations

__all__ = [
    "InputError",
    "LicError",
    "LimitError",
    "NothingReceived",
    "OutputError",
    "StreamError",
    "UsageProblem",
    "WeightsError",
]


class LicError(Exception):
    """Base of everything that ``lic`` reports to a user in one line.

    Args:
        fact: What is wrong, one line, no trailing full stop.
        source: File name or other place that the fact is about; put before the fact.
    """

    exit_code = 1

    def __init__(self, fact: str, source: str | None = None):
        super().__init__(fact)
        self.fact = " ".join(str(fact).split())
        self.source = source

    def __str__(self) -> str:
        return f"{self.source}: {self.fact}" if self.source else self.fact

    def about(self, source: str) -> LicError:
        """Name the file that the error is about, unless one is named already; returns self."""
        if self.source is None:
            self.source = source
        return self


class UsageProblem(LicError):
    """Options that contradict each other, an output that exists, an output that is the input."""

    exit_code = 2


class InputError(LicError):
    """A picture that cannot be read or is not supported, a missing data set or optional package."""

    exit_code = 3


class StreamError(LicError):
    """A ``.lic`` file that is damaged, cut, too long, empty, too new or of an unknown family."""

    exit_code = 4


class LimitError(LicError):
    """More pixels than ``--max-pixels`` allows."""

    exit_code = 5


class WeightsError(LicError):
    """Weights that are missing, changed, or not those that the file was written with."""

    exit_code = 6


class OutputError(LicError):
    """Output that cannot be written: disk full, no permission, missing folder."""

    exit_code = 7


class NothingReceived(LicError):
    """A packet stream of which nothing usable arrived."""

    exit_code = 10
