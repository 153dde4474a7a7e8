"""``diagnose what-if``: what a recorded step would take on another device, with another batch, dtype or link."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diagnose.commands.showing import OK, encodes_bars, pattern, show, text_width

if TYPE_CHECKING:
    from diagnose.predictions.prediction import Prediction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("trace", metavar="TRACE", help="a trace or a recording (a saved report has no timeline)")
    parser.add_argument("--device", metavar="NAME", help="another device, by a name from `diagnose devices`")
    parser.add_argument("--batch", metavar="xN", help="so many times the batch: x2, x0.5")
    parser.add_argument("--dtype", metavar="DTYPE", help="bfloat16, float16, float8, float4 or int8")
    parser.add_argument("--fuse", action="store_true", help="neighbouring pointwise kernels as one")
    parser.add_argument("--graph", action="store_true", help="launched from a device graph")
    parser.add_argument("--link", type=float, metavar="BYTES_PER_S", help="the link between devices, one way: 900e9")
    parser.add_argument("--window", type=pattern, metavar="REGEX", help="annotations that begin a step")
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text", help="default: text")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of to stdout")


def run(arguments: argparse.Namespace) -> int:
    """Reads, predicts, shows."""
    from diagnose.reading import read

    report = read(arguments.trace, window=arguments.window)
    found = report.what_if(
        device=arguments.device,
        batch=arguments.batch,
        dtype=arguments.dtype,
        fuse=arguments.fuse,
        graph=arguments.graph,
        link=arguments.link,
    )
    show(_rendered(found, arguments), arguments.output)
    return OK


def _rendered(found: Prediction, arguments: argparse.Namespace) -> str:
    from diagnose.render.prediction_text import to_text

    if arguments.format == "json":
        return found.to_json()
    if arguments.format == "markdown":
        return found.to_markdown()
    is_file = arguments.output is not None
    return to_text(found.tables, text_width(is_file=is_file), ascii_only=not is_file and not encodes_bars())
