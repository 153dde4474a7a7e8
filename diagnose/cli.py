"""The command line: arguments to calls to print. Only this module and those of ``commands`` print.

A report goes to stdout, everything else to stderr. Exit status: 0 for any readable trace, 2 for bad usage and for
what is no trace, with one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

from diagnose.errors import DiagnoseError, UsageError

_OK: Final = 0
_BAD: Final = 2
_COMMANDS: Final = {
    "run": "run a script or module unchanged, and report on its steps",
    "report": "report on a recorded trace, or show a saved report",
    "compare": "what changed from one recording to another, and whether that is too much",
    "what-if": "what the step would take on another device, with another batch, dtype or link",
    "devices": "the device table, or one device's ceilings",
    "calibrate": "measure this machine's ceilings, and keep them",
    "demo": "record and report a real model's forward pass on this machine",
}
"""What each does, a line for ``--help``; the module of that name in ``commands`` does it."""


class _Parser(argparse.ArgumentParser):
    """argparse with one line instead of a page when the usage is wrong."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see `{self.prog} --help`)")


def entry() -> NoReturn:
    """The console script."""
    # numpy starts BLAS threads when imported; reading a trace multiplies no matrices.
    # Together with leaving at once below, that is a fifth of the time of reading a 12 MB trace (make bench).
    if sys.argv[1:2] == ["report"]:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        gc.disable()  # a short life: nothing is worth collecting
    # A stream that the caller closed is None, and print(file=None) writes to the other one.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.argv[1:2] == ["run"]:
        sys.exit(status)  # the script's own threads and exit handlers
    os._exit(status)  # taking a million objects apart one by one helps nobody


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Without the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    try:
        argv = sys.argv[1:] if argv is None else argv
        arguments = _parser(next(iter(argv), None)).parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except DiagnoseError as error:
        print(f"diagnose: {_one_line(str(error))}", file=sys.stderr)
        return _BAD
    except BrokenPipeError:
        _drop_stdout()  # the reader (head, less) has what it wanted
        return _OK
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # Files are read and written with errors of their own; what is left is a full disk behind standard output.
        _drop_stdout()
        print(f"diagnose: cannot write: {error.strerror or error}", file=sys.stderr)
        return _BAD
    return status


def _drop_stdout() -> None:
    """Sends what is still to be written to nowhere: Python would try once more while closing, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen command's module is imported."""
    parser = _Parser(prog="diagnose", description="What limits a PyTorch step, kernel by kernel on the roofline.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for name, what in _COMMANDS.items():
        command = commands.add_parser(name, help=what)
        if name == chosen:
            module = import_module(f"diagnose.commands.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when asked: package metadata is slow to import."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(_version())
        parser.exit()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"torch-diagnose {version('torch-diagnose')}"
    except PackageNotFoundError:  # run from the tree, not installed
        return "torch-diagnose (not installed)"
