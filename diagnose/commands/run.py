"""``diagnose run``: somebody's script, unchanged, and a report on its steps."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from diagnose.commands.showing import count, encodes_bars, show, text_width, use_color

if TYPE_CHECKING:
    from diagnose.report import Report

_FORMATS: Final = ("text", "json", "markdown")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; everything after the script is the script's."""
    parser.usage = "diagnose run [options] script.py [args...] | -m module [args...]"
    parser.add_argument("-o", "--output", metavar="DIR", help="keep the recording there, one file a rank")
    parser.add_argument("--warmup", type=count, default=2, metavar="N", help="steps left alone first (default: 2)")
    parser.add_argument("--active", type=count, default=3, metavar="N", help="steps recorded (default: 3)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="without a loop: what is recorded (default: 10)"
    )
    parser.add_argument("--format", choices=_FORMATS, default="text", help="default: text, after the script's output")
    parser.add_argument("-m", dest="is_module", action="store_true", help="run a module, as `python -m` does")
    parser.add_argument("script", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Runs it, shows the report, and ends as it ended."""
    from diagnose.errors import UsageError
    from diagnose.live.running import Plan, Script, run_script

    if not arguments.script:
        raise UsageError("run needs a script or -m module (see `diagnose run --help`)")
    if arguments.active < 1 or arguments.seconds <= 0:
        raise UsageError("run needs --active of 1 or more and --seconds above 0")
    target, *rest = arguments.script
    plan = Plan(arguments.warmup, arguments.active, arguments.seconds, arguments.output, _tell)
    outcome = run_script(Script(target, rest, arguments.is_module), plan)
    if outcome.report is None:
        _tell(f"no report: {outcome.problem}")
    elif os.environ.get("RANK", "0") == "0":  # one page for a job of many ranks; the others keep their files
        show(_rendered(outcome.report, arguments.format), None)
    return outcome.status


def _tell(line: str) -> None:
    rank = os.environ.get("RANK")
    print(f"diagnose{'' if rank is None else f' (rank {rank})'}: {line}", file=sys.stderr, flush=True)


def _rendered(report: Report, form: str) -> str:
    from diagnose.render.text import to_text

    if form == "json":
        return report.to_json()
    if form == "markdown":
        return report.to_markdown()
    width, color = text_width(is_file=False), use_color(is_file=False)
    return to_text(report.document, width, color=color, ascii_only=not encodes_bars())
