"""``diagnose report``: a trace, a recording or a saved report as text, JSON, Markdown, CSV or a web page."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Final

from diagnose.commands.showing import OK, count, encodes_bars, pattern, show, text_width, use_color
from diagnose.errors import UsageError

if TYPE_CHECKING:
    from diagnose.counters.ncu import Counters
    from diagnose.pricing.pricing import Fallback
    from diagnose.report import Report

_FORMATS: Final = ("text", "json", "markdown", "html", "csv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "trace", metavar="TRACE", nargs="+",
        help="a Kineto trace (.json or .json.gz), a recording, or a saved report; several, a pattern or a folder: the "
        "ranks of one job",
    )  # fmt: skip
    parser.add_argument("--format", choices=_FORMATS, default="text", help="default: text, one screen")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of to stdout")
    parser.add_argument("--plot", metavar="FILE", help="also draw the roofline (png, svg or pdf by the name's ending)")
    parser.add_argument(
        "--perfetto", metavar="FILE", help="also write the trace for ui.perfetto.dev, with each kernel's work and bound"
    )
    parser.add_argument("--top", type=count, metavar="N", help="show this many kernels")
    parser.add_argument("--sort", choices=("time", "recoverable", "module"), default="time", help="default: time")
    parser.add_argument("--device", metavar="NAME", help="what it ran on, by a name from `diagnose devices`")
    parser.add_argument("--devices", metavar="FILE", help="rows of your own for the device table (TOML)")
    parser.add_argument("--step", type=count, metavar="N", help="this step alone, counted from 0")
    parser.add_argument("--window", type=pattern, metavar="REGEX", help="annotations that begin a step")
    parser.add_argument(
        "--capture", metavar="TRACE", help="a recording of the capture of the device graph replayed here"
    )
    parser.add_argument(
        "--counters", metavar="CSV", help="hardware counters of the same step: what `ncu --csv` printed"
    )
    parser.add_argument("--with-torch", action="store_true", help="ask torch for the outputs of ops without a formula")
    parser.add_argument("--dask", metavar="ADDRESS", help="analyse many ranks on this Dask scheduler's workers")


def run(arguments: argparse.Namespace) -> int:
    """Reads, renders, shows."""
    from diagnose.devices.user_rows import user_rows
    from diagnose.ranks.files import is_many
    from diagnose.reading import read
    from diagnose.trace.chrome import read_trace

    if is_many(arguments.trace) or arguments.dask is not None:
        return _many(arguments)
    capture = None if arguments.capture is None else read_trace(arguments.capture).trace
    options: dict[str, Any] = {
        "device": arguments.device,
        "step": arguments.step,
        "window": arguments.window,
        "capture": capture,
        "counters": _counters(arguments.counters),
        "fallback": _fallback() if arguments.with_torch else None,
        "devices": None if arguments.devices is None else user_rows(arguments.devices),
    }
    report = read(arguments.trace[0], **options)
    show(_rendered(report, arguments), arguments.output)
    if arguments.plot is not None:
        _plot(report, arguments.plot)
    if arguments.perfetto is not None:
        _perfetto(arguments, options)
    return OK


def _perfetto(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    import gzip

    from diagnose.analysis import Options
    from diagnose.output import write_whole
    from diagnose.render.perfetto import to_perfetto
    from diagnose.trace.source import read_bytes

    found = to_perfetto(read_bytes(arguments.trace[0]), arguments.trace[0], Options(**options))
    write_whole(arguments.perfetto, gzip.compress(found, 1, mtime=0) if arguments.perfetto.endswith(".gz") else found)
    print(f"wrote {arguments.perfetto}", file=sys.stderr)


def _many(arguments: argparse.Namespace) -> int:
    from diagnose.analysis import Options
    from diagnose.commands.many_ranks import run as run_many
    from diagnose.devices.user_rows import user_rows

    options = Options(
        device=arguments.device,
        step=arguments.step,
        window=arguments.window,
        fallback=_fallback() if arguments.with_torch else None,
        devices=None if arguments.devices is None else user_rows(arguments.devices),
    )
    return run_many(arguments, options)


def _counters(path: str | None) -> Counters | None:
    if path is None:
        return None
    from diagnose.counters.counters import read_counters

    return read_counters(path)


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
    if arguments.format == "html":
        return report.to_html()
    return _text(report, arguments.top, arguments.sort, is_file=arguments.output is not None)


def _text(report: Report, top: int | None, sort: str, *, is_file: bool) -> str:
    from diagnose.render.text import to_text

    # A number asked for is more important than the screen's height.
    height = 40 if top is None else None
    ascii_only = not is_file and not encodes_bars()
    return to_text(
        report.document,
        text_width(is_file=is_file),
        height,
        color=use_color(is_file=is_file),
        top=top,
        sort=sort,
        ascii_only=ascii_only,
    )


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
