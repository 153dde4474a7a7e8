from __future__ import annotations

import os
from pathlib import Path

import pytest

from diagnose.processor import cpu_facts


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content + "\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores of two threads each; an L2 a core, one L3."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    for cpu in range(4):
        folder, pair = tmp_path / f"cpu{cpu}", f"{cpu % 2},{cpu % 2 + 2}"
        write(folder / "topology" / "thread_siblings_list", pair)
        caches = [("1", "Data", "48K", pair), ("1", "Instruction", "32K", pair), ("2", "Unified", "1024K", pair)]
        for index, (level, kind, size, shared) in enumerate([*caches, ("3", "Unified", "32M", "0-3")]):
            for name, value in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", shared)):
                write(folder / "cache" / f"index{index}" / name, value)
    write(tmp_path / "cpuinfo", "processor : 0\nmodel name\t: AMD EPYC 9654\nflags : x")
    return tmp_path


def test_cores_and_caches_are_counted_once(machine: Path) -> None:
    facts = cpu_facts(3, machine, machine / "cpuinfo")
    assert (facts.model, facts.physical_cores, facts.threads) == ("AMD EPYC 9654", 2, 3)
    assert (facts.l2_bytes, facts.llc_bytes) == (1 << 20, 32 << 20)


def test_several_last_level_caches_add_up(machine: Path) -> None:
    for cpu in range(4):
        write(machine / f"cpu{cpu}" / "cache" / "index3" / "shared_cpu_list", f"{cpu % 2},{cpu % 2 + 2}")
    assert cpu_facts(1, machine, machine / "cpuinfo").llc_bytes == 64 << 20


def test_what_the_system_does_not_tell_is_unknown(tmp_path: Path) -> None:
    facts = cpu_facts(None, tmp_path / "no", tmp_path / "none")
    assert (facts.physical_cores, facts.l2_bytes, facts.llc_bytes, facts.threads) == (None, None, None, None)
