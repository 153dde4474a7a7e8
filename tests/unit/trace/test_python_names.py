"""Whose code a frame is, and how its position is written."""

from __future__ import annotations

import pytest

from diagnose.trace.python_names import Frame, call_line, function_line, owner_of, read_frame, shown_path


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("train.py(24): step", Frame("train.py", 24, "step")),
        ("/a b/m(1).py(3): <lambda>", Frame("/a b/m(1).py", 3, "<lambda>")),
        ("<frozen os>(808): getenv", Frame("<frozen os>", 808, "getenv")),
        ("nn.Module: Linear_3", None),
        ("<built-in function iter>", None),
        ("", None),
        ("x.py(99999999999999999999999): f", Frame("x.py", 999999999, "f")),
    ],
)
def test_a_frame_is_read_from_its_name(name: str, frame: Frame | None) -> None:
    assert read_frame(name) == frame


@pytest.mark.parametrize(
    ("file", "owner"),
    [
        ("train.py", "user"),
        ("/home/u/project/model.py", "user"),
        ("pkg/deep/model.py", "user"),
        ("profile.py", "user"),
        ("<ipython-input-3-ab>", "user"),
        ("transformers/models/vit/modeling_vit.py", "library"),
        ("/opt/env/lib/python3.11/site-packages/somebody/nets.py", "library"),
        ("torch/nn/modules/linear.py", "runtime"),
        ("/opt/env/lib/python3.11/site-packages/torch/nn/functional.py", "runtime"),
        ("/usr/lib/python3.12/contextlib.py", "runtime"),
        ("contextlib.py", "runtime"),
        ("concurrent/futures/thread.py", "runtime"),
        ("triton/runtime/jit.py", "runtime"),
        ("<frozen os>", "runtime"),
        ("<string>", "runtime"),
        ("/tmp/torchinductor_me/hz/chz.py", "runtime"),
        ("ab/c" + "k7" * 26 + ".py", "runtime"),
        ("", "runtime"),
    ],
)
def test_whose_code_a_file_is(file: str, owner: str) -> None:
    assert owner_of(file) == owner


@pytest.mark.parametrize(
    ("file", "folder", "shown"),
    [
        ("/home/someone/project/nets/model.py", "/home/someone/project", "nets/model.py"),
        ("/home/someone/project/nets/model.py", "/somewhere/else", "project/nets/model.py"),
        ("/home/someone/project2/model.py", "/home/someone/project", "someone/project2/model.py"),
        ("/env/lib/python3.11/site-packages/timm/layers/mlp.py", "/env", "timm/layers/mlp.py"),
        ("C:\\Users\\someone\\deep\\project\\model.py", None, "deep/project/model.py"),
        ("train.py", "/home/someone", "train.py"),
    ],
)  # fmt: skip
def test_a_path_never_says_where_on_a_machine_it_lies(file: str, folder: str | None, shown: str) -> None:
    assert shown_path(file, folder) == shown


def test_a_reader_can_tell_a_call_from_a_function() -> None:
    assert call_line("train.py", 25) == "train.py:25"
    assert function_line("train.py", 20, "step") == "train.py:20 def step"
    assert function_line("train.py", 1, "<module>") == "train.py <module>"
