"""The line of an operator, where the source leaves no doubt."""

from __future__ import annotations

from pathlib import Path

import pytest

from diagnose.recording.operator_lines import operator_line

SOURCE = """
def decorated(f):
    return f

@decorated
def forward(x, n):
    y = x * 2
    def inner():
        return x / 3
    z = (
        y
        + inner()
    )
    z += 1
    a = -z
    b = a - 1
    c = b - 2
    return c if (a > b).any() else c @ x

def other(x):
    return x * 3
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "net.py"
    file.write_text(SOURCE)
    return str(file)


@pytest.mark.parametrize(
    ("op", "line"),
    [
        ("aten::mul", 7),
        ("aten::add", 11),
        ("aten::add_", 14),
        ("aten::neg", 15),
        ("aten::gt", 18),
        ("aten::matmul", 18),
        ("aten::sub", None),  # on two lines
        ("aten::div", None),  # in a function of its own
        ("aten::mul_", None),
        ("aten::relu", None),
        ("mylib::add", None),
    ],
)
def test_only_an_operator_that_stands_on_one_line(path: str, op: str, line: int | None) -> None:
    assert operator_line(path, 5, "forward", op) == line
    assert operator_line(path, 6, "forward", op) == line, "Python counts a function from its decorator, people do not"


def test_a_function_that_is_not_there_says_nothing(path: str) -> None:
    assert operator_line(path, 7, "forward", "aten::mul") is None
    assert operator_line(path, 6, "backward", "aten::mul") is None


@pytest.mark.parametrize("content", [b"def f(:\n", b"\xff\xfe\x00", b"(" * 5000, b"x = '\0'"])
def test_a_file_that_is_no_source_says_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.py"
    file.write_bytes(content)
    assert operator_line(str(file), 1, "f", "aten::add") is None
    assert operator_line(str(tmp_path / "never.py"), 1, "f", "aten::add") is None
