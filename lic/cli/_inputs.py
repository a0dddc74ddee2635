"""Turn IN and -o into pairs of files, the same way for every command."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lic.errors import InputError, LicError, OutputError, UsageProblem
from lic.files import check_output

__all__ = ["each_file", "expand_inputs", "pair_files"]


def pair_files(
    inputs: Sequence[str],
    output: str | None,
    *,
    suffix: str,
    belongs: Callable[[Path], bool],
    force: bool,
) -> list[tuple[str, str]]:
    """Return (input, output) pairs.

    Args:
        inputs: Files, folders, or ``-``.
        output: A file for one input, a folder for several or for a folder; beside the input when
            ``None``.
        suffix: Of outputs whose name is derived.
        belongs: Which files of a folder count.
        force: Existing outputs may be replaced.

    Raises:
        UsageProblem: ``-`` twice, several inputs for one file, or an output that may not be
            written.
    """
    if list(inputs).count("-") > 1:
        raise UsageProblem("standard input can be read only once")
    many = len(inputs) > 1 or any(i != "-" and Path(i).is_dir() for i in inputs)
    if many and output == "-":
        raise UsageProblem("several pictures cannot go to standard output; give a folder with -o")
    into_folder = output is not None and output != "-" and (many or Path(output).is_dir())
    if into_folder and output is not None:
        _make_folder(output)
    pairs = []
    for source, relative in expand_inputs(inputs, belongs):
        if into_folder and output is not None:
            target = str(Path(output) / relative.with_suffix(suffix))
        elif output is not None:
            target = output
        else:
            target = "-" if source == "-" else str(Path(source).with_suffix(suffix))
        pairs.append((source, target))
    targets = [t for _, t in pairs]
    twice = next((t for t in targets if t != "-" and targets.count(t) > 1), None)
    if twice:
        raise UsageProblem(f"two inputs would both be written to '{twice}'")
    # Where the derived output is the input itself, reading it first gives the better message.
    if not many and targets[0] != pairs[0][0]:
        check_output(targets[0], inputs=[pairs[0][0]], force=force)
    return pairs


def _make_folder(path: str) -> None:
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise UsageProblem(f"'{path}' is a file; several pictures need a folder")
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise OutputError(f"folder '{folder.parent}' does not exist") from error
    except OSError as error:
        raise OutputError(error.strerror or "cannot be made", path) from error


def expand_inputs(inputs: Sequence[str], belongs: Callable[[Path], bool]) -> list[tuple[str, Path]]:
    """Return each input file with its name relative to where it was asked for; folders are read.

    Raises:
        InputError: A folder that holds no file that belongs.
    """
    found: list[tuple[str, Path]] = []
    for given in inputs:
        path = Path(given)
        if given == "-":
            found.append((given, Path("stdin")))
        elif path.is_dir():
            inside = [f for f in sorted(path.rglob("*")) if f.is_file() and belongs(f)]
            if not inside:
                raise InputError("holds no file to work on", given)
            found += [(str(f), f.relative_to(path)) for f in inside]
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
            raise error.about(_shown(pairs[0][0])) from None
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
            print(f"lic: error: {error.about(_shown(source))}", file=sys.stderr)
            return error.exit_code
        return 0

    if jobs == 1:
        codes = [one(pair) for pair in pairs]
    else:
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            codes = list(pool.map(one, pairs))
    print(f"{codes.count(0)} of {len(pairs)} done", file=sys.stderr)
    return max(codes)


def _shown(source: str) -> str:
    return "standard input" if source == "-" else source
