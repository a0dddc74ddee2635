"""Read whole inputs and replace whole outputs; ``-`` is standard input or output."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from lic.errors import InputError, OutputError, UsageProblem

__all__ = ["atomic_write", "check_output", "read_input"]

_TEMPORARY_NAME_BYTES = 200
"""Of the output's name in the temporary file's; file systems allow 255 with all that is added."""


def read_input(path: str) -> bytes:
    """Return all bytes of a file, a FIFO or standard input.

    Raises:
        UsageProblem: A folder, or a file that does not exist.
        InputError: Unreadable.
    """
    if path == "-":
        return _read_stdin()
    if os.path.isdir(path):
        raise UsageProblem("is a folder, not a file", path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UsageProblem("does not exist", path) from error
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", path) from error


def _read_stdin() -> bytes:
    stream = sys.stdin  # None where the process was started with descriptor 0 closed
    try:
        data = b"" if stream is None or stream.closed else stream.buffer.read()
    except OSError as error:
        raise InputError(error.strerror or "cannot be read", "standard input") from error
    return data


def check_output(path: str, *, inputs: Sequence[str], force: bool) -> None:
    """Refuse an output that could not or must not be written, before any work is done.

    Args:
        path: Output, or ``-``.
        inputs: Files that must not be overwritten, compared by device and inode, so that ``./``,
            symbolic and hard links do not hide them.
        force: An existing file may be replaced; never an input.

    Raises:
        UsageProblem: It is an input, a folder, or exists without ``force``.
        OutputError: Its folder is missing or cannot be written to, or links form a loop.
    """
    if path == "-" or _is_device(path):
        return
    target = _resolve(path)
    for source in inputs:
        if source != "-" and _same_file(source, target):
            raise UsageProblem("input and output are the same file")
    if target.is_dir():
        raise UsageProblem(f"'{path}' is a folder; name a file")
    folder = target.parent
    if not folder.is_dir():
        raise _missing_folder(target)
    if target.exists() and not force:
        raise _exists(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"folder '{folder}' is not writable")


def atomic_write(path: str, data: bytes, *, force: bool) -> None:
    """Write a file as a whole or not at all.

    The bytes go to ``.NAME.*.tmp`` in the same folder, are flushed to the disk, and the file is
    renamed. Any exception, also Ctrl-C, removes the temporary file and leaves an old output
    untouched. A symbolic link stays a link and what it points to is replaced. Devices and FIFOs,
    such as ``/dev/null``, are written to and never replaced.

    Raises:
        UsageProblem: The output is a folder, or exists and ``force`` is not given.
        OutputError: It cannot be written.
    """
    if path == "-":
        _write_stdout(data)
        return
    try:
        if _is_device(path):
            _write_device(path, data)
            return
        target = _resolve(path)
        if target.is_dir():
            raise UsageProblem(f"'{path}' is a folder; name a file")
        _replace(target, data, force)
    except FileExistsError as error:
        raise _exists(path) from error
    except FileNotFoundError as error:
        raise _missing_folder(target) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or "cannot be written", path) from error


def _resolve(path: str) -> Path:
    """Follow symbolic links, also one that points to nothing yet; refuse a loop of them."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:  # realpath would return some place inside the loop
            raise OutputError(error.strerror or "loop of links", path) from error
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _is_device(path: str) -> bool:
    """Tell whether something is there that holds no bytes of its own: a device, FIFO or socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _same_file(first: str, second: Path) -> bool:
    try:
        return os.path.samestat(os.stat(first), os.stat(second))
    except OSError:
        return False


def _exists(path: str) -> UsageProblem:
    return UsageProblem(f"'{path}' exists; pass --force to replace it")


def _missing_folder(target: Path) -> OutputError:
    return OutputError(f"folder '{target.parent}' does not exist")


def _write_stdout(data: bytes) -> None:
    if sys.stdout is None:  # started with descriptor 1 closed
        raise OutputError("is closed", "standard output")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or "cannot be written", "standard output") from error


def _write_device(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY)
    try:
        _write_all(handle, data)
    finally:
        os.close(handle)


def _replace(target: Path, data: bytes, force: bool) -> None:
    if not force and target.exists():
        raise FileExistsError(errno.EEXIST, "exists", str(target))
    temporary = _temporary_name(target)
    # Not tempfile: its files have mode 0600, and widening that needs the umask, which can only be
    # read by setting it for all threads. O_CREAT applies the umask by itself.
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            _write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        if force:
            os.replace(temporary, target)
        else:
            _rename_if_absent(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary_name(target: Path) -> Path:
    kept = os.fsdecode(os.fsencode(target.name)[:_TEMPORARY_NAME_BYTES])
    return target.with_name(f".{kept}.{secrets.token_hex(8)}.tmp")


def _write_all(handle: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _rename_if_absent(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)  # fails where the target exists: no race between test and rename
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        os.replace(temporary, target)
