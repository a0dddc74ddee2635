"""Turn IN and -o into pairs of files, the same way for every command."""

from __future__ import annotations

import concurrent.futures
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lic.errors import InputError, LicError, OutputError, UsageProblem
from lic.files import check_output

__all__ = ["Direction", "Size", "about_input", "each_file", "expand_inputs", "pair_files"]


_OWN = frozenset([".lic", ".pkt"])
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "ki": 1024, "mi": 1024**2}


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes, such as 20000, 20kB or 1.5MiB."""

    name = "bytes"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        parts = re.fullmatch(r"(\d+(?:\.\d+)?) ?(k|m|ki|mi)?b?", str(value).lower())
        if parts is None:
            self.fail(f"'{value}' is not a size such as 20000, 20kB or 1.5MB", param, ctx)
        return int(float(parts[1]) * _UNITS[parts[2] or ""])


@dataclass(frozen=True)
class Direction:
    """What a command makes of what.

    Attributes:
        reads: Suffixes of the files of a folder that count; a file that is named may have any.
        suffix: Of outputs whose name is derived.
        writes: Suffixes that outputs are known by.
        refuses: Suffixes that an output must not have, since others would be misled.
    """

    reads: frozenset[str]
    suffix: str
    writes: frozenset[str]
    refuses: frozenset[str] = frozenset()


def pair_files(
    inputs: Sequence[str], output: str | None, way: Direction, *, force: bool
) -> list[tuple[str, str]]:
    """Return (input, output) pairs.

    Args:
        inputs: Files, folders, or ``-``.
        output: A file for one input; a folder for several, for a folder, and where it is one or
            ends in a slash; beside the input when ``None``.
        way: Of the command.
        force: Existing outputs may be replaced.

    Raises:
        UsageProblem: ``-`` twice, several inputs for one file, or an output that may not be
            written.
    """
    _refuse_mistakes(inputs, output, way)
    many = len(inputs) > 1 or _is_folder(inputs[0])
    into_folder = output not in (None, "-") and (
        many or Path(str(output)).is_dir() or str(output).endswith(os.sep)
    )
    found = expand_inputs(inputs, way.reads)
    if into_folder:
        _make_folder(str(output), way)
        pairs = _into_folder(found, Path(str(output)), way.suffix)
    elif output is not None:
        pairs = [(found[0][0], output)]
    else:
        names = {source: Path(source) for source, _ in found if source != "-"}
        beside = _without_clash(names, way.suffix)
        pairs = [(source, str(beside.get(source, "-"))) for source, _ in found]
    if any(target == "-" for _, target in pairs) and sys.stdout.isatty():
        raise UsageProblem("would write a file to the terminal; give one with -o, or a pipe")
    # Where the derived output is the input itself, reading it first gives the better message.
    if not many and pairs[0][0] != pairs[0][1]:
        _check_exists(pairs[0][0])
        check_output(pairs[0][1], inputs=[pairs[0][0]], force=force)
        named = Path(pairs[0][1]).suffix.lower()
        if named in way.refuses:
            kind = f"a {named} file" if named in _OWN else "a picture"
            raise UsageProblem(
                f"'{output}' is named like {kind} and would hold a {way.suffix} file; "
                "choose another suffix"
            )
    return pairs


def _refuse_mistakes(inputs: Sequence[str], output: str | None, way: Direction) -> None:
    if list(inputs).count("-") > 1:
        raise UsageProblem("standard input can be read only once")
    last = Path(inputs[-1]).suffix.lower()
    if output is None and len(inputs) == 2 and last in way.writes:
        raise UsageProblem(f"both names are inputs; did you mean '-o {inputs[-1]}'?")
    if output == "-" and (len(inputs) > 1 or _is_folder(inputs[0])):
        raise UsageProblem("several pictures cannot go to standard output; give a folder with -o")


def _is_folder(path: str) -> bool:
    return path != "-" and Path(path).is_dir()


def _check_exists(path: str) -> None:
    if path != "-" and not os.path.lexists(path):
        raise UsageProblem("does not exist", path)


def _make_folder(path: str, way: Direction) -> None:
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"'{path}' is a file; several pictures need a folder")
    if not folder.exists() and folder.suffix.lower() in way.writes and not path.endswith(os.sep):
        raise UsageProblem(f"'{path}' is named like a file; several pictures need a folder")
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise OutputError(f"folder '{folder.parent}' does not exist") from error
    except OSError as error:
        raise OutputError(error.strerror or "cannot be made", path) from error


def _into_folder(found: list[tuple[str, Path]], folder: Path, suffix: str) -> list[tuple[str, str]]:
    names = {source: folder / relative for source, relative in found}
    targets = _without_clash(names, suffix)
    counts = Counter(targets.values())
    twice = next((t for t in targets.values() if counts[t] > 1), None)
    if twice:
        sources = " and ".join(f"'{s}'" for s, t in targets.items() if t == twice)
        raise UsageProblem(f"{sources} would both be written to '{twice}'")
    return [(source, str(targets[source])) for source, _ in found]


def _without_clash(names: dict[str, Path], suffix: str) -> dict[str, Path]:
    """Replace suffixes; files that differ only by theirs keep it: ``a.jpg.lic``, ``a.png.lic``."""
    plain = {source: path.with_suffix(suffix) for source, path in names.items()}
    counts = Counter(plain.values())
    return {
        source: path if counts[path] == 1 else names[source].with_name(names[source].name + suffix)
        for source, path in plain.items()
    }


def expand_inputs(inputs: Sequence[str], reads: frozenset[str]) -> list[tuple[str, Path]]:
    """Return each input file with its name relative to where it was asked for; folders are read.

    Hidden files and folders inside of folders are left out.

    Raises:
        InputError: A folder that holds no file with one of the suffixes.
    """
    found: list[tuple[str, Path]] = []
    for given in inputs:
        path = Path(given)
        if given == "-":
            found.append((given, Path("stdin")))
        elif path.is_dir():
            inside = [f.relative_to(path) for f in sorted(path.rglob("*")) if f.is_file()]
            shown = [f for f in inside if not any(part.startswith(".") for part in f.parts)]
            fitting = [f for f in shown if f.suffix.lower() in reads]
            if not fitting:
                wanted = "picture" if len(reads) > 2 else " or ".join(sorted(reads)) + " file"
                raise InputError(f"holds no {wanted}", given)
            found += [(str(path / f), f) for f in fitting]
        else:
            found.append((given, Path(path.name)))
    return found


def each_file(
    pairs: list[tuple[str, str]],
    work: Callable[[str, str], None],
    *,
    force: bool,
    jobs: int = 1,
) -> int:
    """Work on each pair, ``jobs`` at once; one bad file does not stop the rest.

    Returns the worst exit code; a single pair's error is raised instead.
    """
    if len(pairs) == 1:
        try:
            work(*pairs[0])
        except LicError as error:
            raise about_input(error, pairs[0][0]) from None
        return 0

    def one(pair: tuple[str, str]) -> int:
        source, target = pair
        try:
            if target != "-":
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            if target != source:
                check_output(target, inputs=[source], force=force)
            work(source, target)
        except LicError as error:
            print(f"lic: error: {about_input(error, source)}", file=sys.stderr)
            return error.exit_code
        return 0

    if jobs == 1:
        codes = [one(pair) for pair in pairs]
    else:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            codes = list(pool.map(one, pairs))
    print(f"{codes.count(0)} of {len(pairs)} done", file=sys.stderr)
    return max(codes)


def about_input(error: LicError, source: str) -> LicError:
    """Name the input in an error that names nothing yet."""
    return error.about("standard input" if source == "-" else source)
