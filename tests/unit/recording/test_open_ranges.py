"""Ranges that are open when a recording ends are closed first: torch would write into freed memory later."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch.autograd.profiler import record_function

import diagnose
from diagnose.recording import open_ranges
from diagnose.recording.open_ranges import close_ranges, python_ranges, remember_unfinished, wait_for_unfinished
from diagnose.recording.recorder import Options, Recorder
from diagnose.trace.embed import has_unfinished


def saved(p: diagnose.Profile, path: Path) -> Path:
    p.save(path)
    return path


def test_kineto_marks_what_has_not_ended_when_nobody_closes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("diagnose.recording.recorder.close_ranges", lambda _: None)
        with diagnose.profile() as p:
            outer = record_function("outer")
            outer.__enter__()
            torch.ones(2).neg()
    outer.__exit__(None, None, None)
    assert has_unfinished(saved(p, tmp_path / "a.json"))


def test_a_range_that_is_open_ends_with_its_recording(tmp_path: Path) -> None:
    with diagnose.profile() as p:
        outer = record_function("outer")
        outer.__enter__()
        torch.ones(2).neg()
    assert not has_unfinished(saved(p, tmp_path / "a.json"))
    with diagnose.profile() as again:
        torch.ones(2).neg()
        outer.__exit__(None, None, None)  # of a range that was closed already: nothing happens
    assert again.report is not None
    assert "aten::neg" in {row.op for row in again.report.kernels}


def test_a_range_around_the_recording_is_left_alone() -> None:
    outer = record_function("outer")
    outer.__enter__()
    before = python_ranges()
    assert outer in before
    inner = record_function("inner")
    inner.__enter__()
    assert inner in python_ranges() - before
    assert outer not in python_ranges() - before
    close_ranges(before)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)


def test_steps_inside_a_range_have_their_cycles_and_lines(tmp_path: Path) -> None:
    with diagnose.profile(wait=1, active=1, repeat=2, out=tmp_path) as p:
        for step in range(6):
            with record_function(f"step {step}"):
                torch.ones(2).neg()
                p.step()
    first, second = p.reports
    assert any(place.line for row in first.kernels for place in row.places)
    assert second.kernels
    assert p.error is None


def test_a_recording_that_is_thrown_away_closes_them_too() -> None:
    recorder = Recorder(Options())
    recorder.begin()
    outer = record_function("outer")
    outer.__enter__()
    recorder.end()
    recorder.discard()
    with diagnose.profile() as p:
        outer.__exit__(None, None, None)
    assert p.error is None


def test_ranges_of_other_threads_are_given_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_ranges, "_PAUSE_S", 0.2)
    begin = time.monotonic()
    remember_unfinished()
    wait_for_unfinished()
    assert time.monotonic() - begin >= 0.2
