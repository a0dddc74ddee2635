"""Read whole inputs and replace whole outputs; ``-`` is standard input or output."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lic.errors import InputError, OutputError, UsageProblem

__all__ = ["atomic_write", "check_output", "read_input"]


def read_input(path: str) -> bytes:
    """Return all bytes of a file, a FIFO or standard input.

    Raises:
        UsageProblem: A folder.
        InputError: Missing, unreadable, or standard input that is closed or empty.
    """
    if path == "-":
        stream = sys.stdin
        data = b"" if stream is None or stream.closed else stream.buffer.read()
        if not data:
            raise InputError("standard input is empty")
        return data
    if os.path.isdir(path):
        raise UsageProblem(f"'{path}' is a folder; give -o DIR to work on what it holds")
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UsageProblem(f"'{path}' does not exist") from error
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", path) from error


def _target(path: str) -> Path:
    """Follow symbolic links, so that a link stays a link and what it points to is replaced."""
    try:
        return Path(os.path.realpath(path, strict=False)) if _readlink_ok(path) else Path(path)
    except OSError as error:
        raise OutputError(error.strerror or "cannot be resolved", path) from error


def _readlink_ok(path: str) -> bool:
    # A loop of links: realpath would return some path inside it, stat tells.
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
    return True


def check_output(path: str, *, inputs: Sequence[str], force: bool) -> None:
    """Refuse an output that could not or must not be written, before any work is done.

    Raises:
        UsageProblem: It is an input, a folder, or exists without ``force``.
        OutputError: Its folder is missing or cannot be written to.
    """
    if path == "-":
        return
    target = _target(path)
    for source in inputs:
        if source != "-" and _same_file(source, str(target)):
            raise UsageProblem("input and output are the same file")
    if target.is_dir():
        raise UsageProblem(f"'{path}' is a folder; name a file")
    if not target.parent.is_dir():
        raise OutputError(
            f"folder '{target.parent if target.is_symlink() else Path(path).parent}' does not exist"
        )
    if target.exists() and not force:
        raise UsageProblem(f"'{path}' exists; pass --force to replace it")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise OutputError("folder is not writable", path)


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samestat(os.stat(first), os.stat(second))
    except OSError:
        return False


def atomic_write(path: str, data: bytes, *, force: bool) -> None:
    """Write a file as a whole or not at all.

    The bytes go to a temporary file in the same folder, are flushed to the disk and renamed. Any
    exception, also Ctrl-C, removes the temporary file and leaves an old output untouched.

    Raises:
        UsageProblem: The output exists and ``force`` is not given.
        OutputError: It cannot be written.
    """
    if path == "-":
        _write_stdout(data)
        return
    target = _target(path)
    try:
        _replace(target, data, force)
    except FileExistsError as error:
        raise UsageProblem(f"'{path}' exists; pass --force to replace it") from error
    except FileNotFoundError as error:
        raise OutputError(f"folder '{Path(path).parent}' does not exist") from error
    except OSError as error:
        raise OutputError(error.strerror or "cannot be written", path) from error


def _write_stdout(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or "cannot be written", "standard output") from error


def _replace(target: Path, data: bytes, force: bool) -> None:
    handle, temporary = tempfile.mkstemp(
        prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        if force:
            os.replace(temporary, target)
        else:
            _rename_if_absent(temporary, target)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)


def _rename_if_absent(temporary: str, target: Path) -> None:
    try:
        os.link(temporary, target)  # fails where the target exists: no race between test and rename
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        os.replace(temporary, target)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
