"""Lines of text: what rich prints, also where rich is not asked."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import set_cell_size

from diagnose.render.lines import Line, _by_rich, in_columns, is_narrow, printed

TEXTS = st.text(st.sampled_from("ab [c]…█▓▒░∙·×→–—µ漢é\u0301🙂"), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), st.integers(10, 40))
def test_plain_lines_are_those_that_rich_prints(parts: list[tuple[str, str]], width: int) -> None:
    lines = [Line(first).append(second, "bold") for first, second in parts]
    expected = "\n".join(text.rstrip() for text in _by_rich(lines, width, color=False).splitlines())
    assert printed(lines, width, color=False) == expected


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(0, 40))
def test_columns_are_those_that_rich_counts(text: str, columns: int) -> None:
    assert in_columns(text, columns) == set_cell_size(text, columns)


@pytest.mark.parametrize("text", ["漢", "e\u0301", "\x1b[31m", "a\tb", "\u200b", "🙂"])
def test_what_may_be_wider_or_no_character_at_all_is_not_narrow(text: str) -> None:
    assert not is_narrow(text)


def test_colours_are_richs() -> None:
    text = printed([Line("a", "bold").append("b", "not bold red")], 40, color=True)
    assert "\x1b[1ma\x1b[0m" in text
    assert "\x1b[31mb\x1b[0m" in text


def test_plain_text_does_not_import_rich() -> None:
    code = """
import sys
from diagnose.render.lines import Line, in_columns, printed
print(printed([Line(in_columns("kernel", 9)).append("█ 12 µs")], 40, color=False), "rich" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "kernel   █ 12 µs False\n"
