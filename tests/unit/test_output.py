"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from diagnose.errors import DiagnoseError
from diagnose.output import write_whole


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "out.txt"
    write_whole(path, "größer")
    assert path.read_text("utf-8") == "größer"
    write_whole(str(path), b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    write_whole(path, "old")

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(DiagnoseError, match=r"cannot write .*out.txt: No space left on device"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.txt"]


def test_permissions_are_those_of_any_new_file_or_of_the_old_one(tmp_path):
    path = tmp_path / "out.txt"
    ordinary = tmp_path / "ordinary.txt"
    ordinary.write_text("")
    write_whole(path, "new")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    path.chmod(0o640)
    write_whole(path, "newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_a_link(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_device_is_written_to_and_not_replaced():
    write_whole("/dev/null", "gone")
    assert not Path("/dev/null").is_file()
