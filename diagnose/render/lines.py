"""Lines of text in styles. rich colours them and knows how wide any character is; it is imported where that matters.

A plain report, whose characters are all one column wide, needs none of it: rich takes as long to import as the rest of
the rendering.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

_OWN: Final = dict.fromkeys(map(ord, "…█▓▒░∙·×→–—µ"))
"""Characters of ours beyond ASCII, one column wide each."""


class Line:
    """One line, in parts that each have a style in rich's words.

    Attributes:
        parts: Text and style of each.
    """

    __slots__ = ("parts",)

    def __init__(self, text: str = "", style: str = "") -> None:
        self.parts = [(text, style)]

    @property
    def plain(self) -> str:
        """The text alone."""
        return "".join(text for text, _ in self.parts)

    def append(self, text: str, style: str = "") -> Line:
        """Adds a part, whose style comes on top of the first one's; returns the line itself."""
        self.parts.append((text, style))
        return self


def printed(lines: Sequence[Line], width: int, *, color: bool) -> str:
    """The lines as they go to a terminal of ``width`` columns, cut where they are longer.

    Args:
        lines: Without line breaks.
        width: Columns.
        color: Whether to write terminal colours.
    """
    texts = [line.plain for line in lines]
    if color or not all(map(is_narrow, texts)):
        texts = _by_rich(lines, width, color=color).splitlines()
    else:
        texts = [text if len(text) <= width else text[: width - 1] + "…" for text in texts]
    return "\n".join(text.rstrip() for text in texts)


def is_narrow(text: str) -> bool:
    """Whether each character certainly takes one column."""
    known = text if text.isascii() else text.translate(_OWN)
    return known.isascii() and known.isprintable()


def in_columns(text: str, columns: int) -> str:
    """The text cut or filled up with spaces to so many columns."""
    if is_narrow(text):
        return text[:columns].ljust(columns)
    from rich.cells import set_cell_size

    return set_cell_size(text, columns)


def _by_rich(lines: Sequence[Line], width: int, *, color: bool) -> str:
    from rich.console import Console
    from rich.text import Text

    console = Console(
        file=io.StringIO(), width=width, force_terminal=color, color_system="standard" if color else None,
        no_color=not color, force_jupyter=False, legacy_windows=False, markup=False, emoji=False, highlight=False,
    )  # fmt: skip
    with console.capture() as captured:
        for line in lines:
            (first, style), *rest = line.parts
            text = Text(first, style=style)
            for part, own in rest:
                text.append(part, style=own)
            console.print(text, no_wrap=True, overflow="ellipsis", crop=True)
    return captured.get()
