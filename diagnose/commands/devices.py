"""``diagnose devices``: the device table, or one device's ceilings."""

from __future__ import annotations

import argparse

from diagnose.commands.showing import OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one device, by the name its driver reports")
    parser.add_argument("--devices", metavar="FILE", help="rows of your own for the table (TOML)")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table."""
    from diagnose.devices.user_rows import user_rows
    from diagnose.render.devices import devices_json, devices_text

    render = devices_json if arguments.format == "json" else devices_text
    print(render(arguments.name, user_rows(arguments.devices)))
    return OK
