"""What every command shares: showing a result, progress, and arguments that several take."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

OK: Final = 0
"""Exit status of a command that did what it was asked."""


def count(text: str) -> int:
    """An argument that is a whole number from 0 on."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return value


def pattern(text: str) -> re.Pattern[str]:
    """An argument that is a regular expression."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression: {error}") from error


def use_color(*, is_file: bool) -> bool:
    """Whether the text goes to a terminal that shows colours (https://no-color.org)."""
    is_terminal = not is_file and sys.stdout.isatty()
    return bool(is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb")


def text_width(*, is_file: bool) -> int:
    """100 columns; as many as the terminal, or ``COLUMNS`` in a pipe, has between 80 and 100."""
    says = not is_file and (sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit())
    return max(80, min(100, shutil.get_terminal_size((100, 40)).columns)) if says else 100


def encodes_bars() -> bool:
    """Whether standard output's encoding has the characters of the bars."""
    try:
        "█…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def show(text: str, path: str | None) -> None:
    """Prints a result, or writes it to ``path``, whole or not at all."""
    if path is None:
        encoding = sys.stdout.encoding or "utf-8"
        print(text.rstrip("\n").encode(encoding, "replace").decode(encoding))
        return
    from diagnose.output import write_whole

    write_whole(path, text if text.endswith("\n") else text + "\n")
    print(f"wrote {path}", file=sys.stderr)


@contextmanager
def progress() -> Iterator[Callable[[float, str], None]]:
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
