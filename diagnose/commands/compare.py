"""``diagnose compare``: what changed from one recording to another, and whether that is too much."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from diagnose.commands.showing import OK, count, encodes_bars, show, text_width

if TYPE_CHECKING:
    from diagnose.comparisons.comparison import Comparison

CROSSED: Final = 1
"""Exit status where a ``--fail-on`` threshold was crossed."""
UNKNOWN: Final = 2
"""Exit status where a threshold could not be judged: passing would be a silent failure."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("before", metavar="BEFORE", help="a trace, a recording or a saved report")
    parser.add_argument("after", metavar="AFTER", help="the same, of the later run")
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="METRIC:LIMIT",
        help="exit with 1 if this happened, for example step_time:+5%%, idle:+2ms, peak_memory:8GB, "
        "kernel:softmax:+10%%; may be given several times",
    )
    parser.add_argument("--strict", action="store_true", help="thresholds count within noise too")
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text", help="default: text")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of to stdout")
    parser.add_argument("--top", type=count, metavar="N", help="show this many changes")


def run(arguments: argparse.Namespace) -> int:
    """Compares, shows, judges."""
    from diagnose.comparisons.comparison import compare

    found = compare(arguments.before, arguments.after, fail_on=arguments.fail_on, strict=arguments.strict)
    show(_rendered(found, arguments), arguments.output)
    unknown = [row for row in found.thresholds if row.crossed is None]
    for row in unknown:
        print(f"diagnose: --fail-on {row.expression}: {row.words}", file=sys.stderr)
    if found.failed:
        return CROSSED
    return UNKNOWN if unknown else OK


def _rendered(found: Comparison, arguments: argparse.Namespace) -> str:
    from diagnose.render.comparison_text import to_text

    if arguments.format == "json":
        return found.to_json()
    if arguments.format == "markdown":
        return found.to_markdown(15 if arguments.top is None else arguments.top)
    is_file = arguments.output is not None
    width = text_width(is_file=is_file)
    return to_text(found.tables, width, arguments.top, ascii_only=not is_file and not encodes_bars())
