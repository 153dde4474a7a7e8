"""The command line: arguments to calls to print. The only module that prints.

A report goes to stdout, everything else to stderr. Exit status: 0 for any readable trace, 2 for bad usage and for
what is no trace, with one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from diagnose.errors import DiagnoseError, UsageError

if TYPE_CHECKING:
    from diagnose.pricing import Fallback
    from diagnose.report import Report

_OK: Final = 0
_BAD: Final = 2
_FORMATS: Final = ("text", "json", "markdown", "csv")


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
    os._exit(status)  # taking a million objects apart one by one helps nobody


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Without the program's name; by default the process's own.

    Returns:
        The exit status.
    """
    try:
        arguments = _parser().parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="diagnose", description="What limits a PyTorch step, kernel by kernel on the roofline.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_report(commands.add_parser("report", help="report on a recorded trace, or show a saved report"))
    _add_devices(commands.add_parser("devices", help="the device table, or one device's ceilings"))
    _add_calibrate(commands.add_parser("calibrate", help="measure this machine's ceilings, and keep them"))
    _add_demo(commands.add_parser("demo", help="record and report a real model's forward pass on this machine"))
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


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "trace", metavar="TRACE", help="a Kineto trace (.json or .json.gz), a recording, or a saved report"
    )
    parser.add_argument("--format", choices=_FORMATS, default="text", help="default: text, one screen")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of to stdout")
    parser.add_argument("--plot", metavar="FILE", help="also draw the roofline (png, svg or pdf by the name's ending)")
    parser.add_argument("--top", type=_count, metavar="N", help="show this many kernels")
    parser.add_argument("--sort", choices=("time", "recoverable", "module"), default="time", help="default: time")
    parser.add_argument("--device", metavar="NAME", help="what it ran on, by a name from `diagnose devices`")
    parser.add_argument("--devices", metavar="FILE", help="rows of your own for the device table (TOML)")
    parser.add_argument("--step", type=_count, metavar="N", help="this step alone, counted from 0")
    parser.add_argument("--window", type=_pattern, metavar="REGEX", help="annotations that begin a step")
    parser.add_argument(
        "--capture", metavar="TRACE", help="a recording of the capture of the device graph replayed here"
    )
    parser.add_argument("--with-torch", action="store_true", help="ask torch for the outputs of ops without a formula")
    parser.set_defaults(run=_report)


def _add_devices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one device, by the name its driver reports")
    parser.add_argument("--devices", metavar="FILE", help="rows of your own for the table (TOML)")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(run=_devices)


def _add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="20 seconds at most instead of two minutes")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda or cuda:1; default: the first GPU, else the CPU")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")
    parser.set_defaults(run=_calibrate)


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=("gpt2", "vit"), default="gpt2", help="default: gpt2")
    parser.add_argument("-o", "--output", metavar="DIR", default="out", help="default: out")
    parser.set_defaults(run=_demo)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return value


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from error


def _report(arguments: argparse.Namespace) -> int:
    from diagnose.devices.user_rows import user_rows
    from diagnose.reading import read
    from diagnose.trace.chrome import read_trace

    capture = None if arguments.capture is None else read_trace(arguments.capture).trace
    report = read(
        arguments.trace,
        device=arguments.device,
        step=arguments.step,
        window=arguments.window,
        capture=capture,
        fallback=_fallback() if arguments.with_torch else None,
        devices=None if arguments.devices is None else user_rows(arguments.devices),
    )
    _show(_rendered(report, arguments), arguments.output)
    if arguments.plot is not None:
        _plot(report, arguments.plot)
    return _OK


def _fallback() -> Fallback:
    """What torch answers for ops without a formula."""
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UsageError("--with-torch needs torch, which is not installed")
    from diagnose.costs.meta import meta_price

    return meta_price


def _rendered(report: Report, arguments: argparse.Namespace) -> str:
    if arguments.format == "json":
        return report.to_json()
    if arguments.format == "markdown":
        return report.to_markdown(20 if arguments.top is None else arguments.top)
    if arguments.format == "csv":
        return report.to_csv()
    return _text(report, arguments.top, arguments.sort, is_file=arguments.output is not None)


def _text(report: Report, top: int | None, sort: str, *, is_file: bool) -> str:
    from diagnose.render.text import to_text

    is_terminal = not is_file and sys.stdout.isatty()
    width = max(80, min(100, shutil.get_terminal_size((100, 40)).columns)) if is_terminal else 100
    color = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    # A number asked for is more important than the screen's height.
    height = 40 if top is None else None
    ascii_only = not is_file and not _encodes_bars()
    return to_text(report.document, width, height, color=color, top=top, sort=sort, ascii_only=ascii_only)


def _encodes_bars() -> bool:
    try:
        "█…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _show(text: str, path: str | None) -> None:
    if path is None:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.rstrip("\n").encode(encoding, "replace").decode(encoding))
        return
    from diagnose.output import write_whole

    write_whole(path, text if text.endswith("\n") else text + "\n")
    print(f"wrote {path}", file=sys.stderr)


def _plot(report: Report, path: str) -> None:
    import io
    from pathlib import PurePath

    from diagnose.output import write_whole

    image = io.BytesIO()
    try:
        report.plot().get_figure(root=True).savefig(image, format=PurePath(path).suffix[1:] or "png")  # type: ignore[union-attr]
    except ValueError as error:
        raise UsageError(f"--plot {path}: {error}") from error
    write_whole(path, image.getvalue())
    print(f"wrote {path}", file=sys.stderr)


def _devices(arguments: argparse.Namespace) -> int:
    from diagnose.devices.user_rows import user_rows
    from diagnose.render.devices import devices_json, devices_text

    render = devices_json if arguments.format == "json" else devices_text
    print(render(arguments.name, user_rows(arguments.devices)))
    return _OK


def _calibrate(arguments: argparse.Namespace) -> int:
    from diagnose.calibrating import calibrate

    with _progress() as tell:
        found = calibrate(quick=arguments.quick, device=arguments.device, progress=tell)
    print(found.to_json() if arguments.format == "json" else found)
    in_force = "in force from now on" if found.calibrated.unfit is None else "not in force"
    where = "not kept" if found.path is None else f"kept in {found.path}"
    print(f"{where}; {in_force} (`diagnose devices` shows what is)", file=sys.stderr)
    return _OK


@contextmanager
def _progress() -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, a line a step elsewhere; on stderr either way."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda share, name: print(f"{share:4.0%} {name}", file=sys.stderr, flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda share, name: bar.update(task, completed=share, description=name)


def _demo(arguments: argparse.Namespace) -> int:
    from diagnose.demo import run

    print(f"running {arguments.model}; the report goes to {arguments.output}/", file=sys.stderr)
    result = run(arguments.model, arguments.output)
    print(result.report)
    for path in result.paths:
        print(f"wrote {path}", file=sys.stderr)
    return _OK
