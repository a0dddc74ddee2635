"""The ``lic`` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, NoReturn

import click

import lic
from lic.errors import LicError, OutputError

__all__ = ["cli", "run"]

_COMMANDS = {
    "encode": ("lic.cli.encode", "encode"),
    "decode": ("lic.cli.decode", "decode"),
    "transcode": ("lic.cli.transcode", "transcode"),
    "channel": ("lic.cli.channel", "channel"),
    "info": ("lic.cli.info", "info"),
    "eval": ("lic.cli.eval", "eval_"),
    "train": ("lic.cli.train", "train"),
    "models": ("lic.cli.models", "models"),
    "data": ("lic.cli.data", "data"),
}


class _LazyGroup(click.Group):
    """Imports a command's module when it is asked for, so that ``lic --help`` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lic.__version__, "-V", "--version", prog_name="lic")
@click.option("--debug", is_flag=True, help="Show the traceback of an internal error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Compress pictures with neural networks, and get them back.

    \b
    lic encode photo.jpg -o photo.lic -q 40
    lic decode photo.lic -o photo.png

    \b
    Exit codes: 0 done, 1 a bug or a reader that left, 2 usage, 3 a picture or data set that cannot
    be read, 4 a damaged or foreign .lic file, 5 too many pixels, 6 weights, 7 output,
    10 no packet arrived, 130 interrupted, 143 terminated. With several inputs, the largest of
    theirs.
    """  # noqa: D301 - click wants the character
    ctx.obj = {"debug": debug}


class _Terminated(BaseException):
    """SIGTERM, raised where the program is, so that temporary files are removed on the way out."""


class _Interrupted(BaseException):
    """SIGINT; click would print an empty line for the usual KeyboardInterrupt."""


def _on_signal(number: int, _frame: Any) -> NoReturn:
    raise _Terminated if number == signal.SIGTERM else _Interrupted


def run(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of what happened."""
    signal.signal(signal.SIGTERM, _on_signal)
    # A shell starts background jobs with SIGINT ignored; that stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_signal)
    sys.exit(_code(arguments))


def _code(arguments: list[str] | None) -> int:
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(arguments, prog_name="lic", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return error.exit_code
    except SystemExit as error:  # click's way of ending when a reader left
        return error.code if isinstance(error.code, int) else 1
    except BrokenPipeError:
        _silence_stdout()
        return 1
    except BaseException as error:
        if debug:
            raise
        if isinstance(error, OSError):
            _silence_stdout()
        return _say(*_explain(error))


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the one line and the exit code for what ended a command."""
    if isinstance(error, LicError):
        return str(error), error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt | _Interrupted):
        return "interrupted", 130
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, _Terminated):
        return "terminated", 143
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {error.strerror or error}", OutputError.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory for this picture", 1
    text = f"internal error: {type(error).__name__}: {error}"
    return f"{text}; run 'lic --debug ...' for the traceback", 1


def _say(text: str, code: int) -> int:
    try:
        print(f"lic: error: {' '.join(text.split())}", file=sys.stderr)
    except OSError:
        pass
    return code


def _silence_stdout() -> None:
    # The interpreter flushes stdout once more at exit and would complain again.
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:
        pass
