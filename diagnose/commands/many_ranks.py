"""``diagnose report`` with more than one recording: the ranks of one job."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from diagnose.commands.showing import OK, encodes_bars, show, text_width
from diagnose.errors import UsageError

if TYPE_CHECKING:
    from diagnose.analysis import Options
    from diagnose.ranks.report import RanksReport


def run(arguments: argparse.Namespace, options: Options) -> int:
    """Reads every rank, joins, renders, shows."""
    from diagnose.ranks.files import found_files
    from diagnose.ranks.gathering import gather
    from diagnose.ranks.report import RanksReport

    for name, what in (
        ("plot", "--plot"),
        ("perfetto", "--perfetto"),
        ("counters", "--counters"),
        ("capture", "--capture"),
    ):
        if getattr(arguments, name, None) is not None:
            raise UsageError(f"{what} is for one recording: give it with one rank's")
    files = found_files(arguments.trace)
    print(f"reading {len(files)} recordings", file=sys.stderr)
    report = RanksReport(gather(files, options, arguments.dask))
    show(_rendered(report, arguments), arguments.output)
    return OK


def _rendered(report: RanksReport, arguments: argparse.Namespace) -> str:
    if arguments.format == "json":
        return report.to_json()
    if arguments.format == "markdown":
        return report.to_markdown()
    if arguments.format != "text":
        raise UsageError(f"--format {arguments.format} is for one recording; many have text, json and markdown")
    from diagnose.render.ranks_text import ranks_to_text

    is_file = arguments.output is not None
    height = 40 if arguments.top is None else None
    return ranks_to_text(
        report.document, text_width(is_file=is_file), height, ascii_only=not is_file and not encodes_bars()
    )
