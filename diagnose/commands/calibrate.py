"""``diagnose calibrate``: measures this machine's ceilings and keeps them."""

from __future__ import annotations

import argparse
import sys

from diagnose.commands.showing import OK, progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--quick", action="store_true", help="20 seconds at most instead of two minutes")
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda or cuda:1; default: the first GPU, else the CPU")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def run(arguments: argparse.Namespace) -> int:
    """Measures and shows."""
    from diagnose.calibrating import calibrate

    with progress() as tell:
        found = calibrate(quick=arguments.quick, device=arguments.device, progress=tell)
    print(found.to_json() if arguments.format == "json" else found)
    in_force = "in force from now on" if found.calibrated.unfit is None else "not in force"
    where = "not kept" if found.path is None else f"kept in {found.path}"
    print(f"{where}; {in_force} (`diagnose devices` shows what is)", file=sys.stderr)
    return OK
