"""``diagnose demo``: records and reports a real model's forward pass on this machine."""

from __future__ import annotations

import argparse
import sys

from diagnose.commands.showing import OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--model", choices=("gpt2", "vit"), default="gpt2", help="default: gpt2")
    parser.add_argument("-o", "--output", metavar="DIR", default="out", help="default: out")


def run(arguments: argparse.Namespace) -> int:
    """Records, prints, writes."""
    from diagnose.demo import run as run_demo

    print(f"running {arguments.model}; the report goes to {arguments.output}/", file=sys.stderr)
    result = run_demo(arguments.model, arguments.output)
    print(result.report)
    for path in result.paths:
        print(f"wrote {path}", file=sys.stderr)
    return OK
