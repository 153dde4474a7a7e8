from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from diagnose.errors import DiagnoseError, TraceError
from diagnose.trace.embed import append_key, base_time_ns, save_copy, save_new

KINETO = """{
 "baseTimeNanoseconds": 1790857026000000000,
 "traceEvents": [{"ts": 1.5}
 ],"traceName": "/tmp/a\\"b.json" }
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "0.json"
    path.write_text(KINETO)
    return path


def test_the_key_is_added_and_the_rest_stays(trace: Path) -> None:
    append_key(trace, b'{"version":1}')
    found = json.loads(trace.read_text())
    assert found == {
        "baseTimeNanoseconds": 1790857026000000000,
        "traceEvents": [{"ts": 1.5}],
        "diagnose": {"version": 1},
    }


def test_the_key_is_added_to_a_file_longer_than_what_is_looked_at(trace: Path) -> None:
    events = [{"name": f"op {index}"} for index in range(5000)]
    trace.write_text(json.dumps({"traceEvents": events, "traceName": "x"}))
    append_key(trace, b"[]")
    assert json.loads(trace.read_text()) == {"traceEvents": events, "diagnose": []}


def test_a_file_cut_off_is_refused_and_left_alone(trace: Path) -> None:
    trace.write_text(KINETO[:60])
    with pytest.raises(TraceError, match="cut off"):
        append_key(trace, b"{}")
    assert trace.read_text() == KINETO[:60]


def test_the_clocks_base_is_read_from_the_header_alone(trace: Path) -> None:
    assert base_time_ns(trace) == 1790857026000000000
    trace.write_text('{"traceEvents": [{"name": "\\"baseTimeNanoseconds\\": 5", "baseTimeNanoseconds": 7}]}')
    assert base_time_ns(trace) is None


def test_copies_are_compressed_by_name_and_leave_nothing_else(trace: Path, tmp_path: Path) -> None:
    save_copy(trace, tmp_path / "b.json.gz")
    save_copy(trace, tmp_path / "c.json")
    assert gzip.decompress((tmp_path / "b.json.gz").read_bytes()).decode() == KINETO
    assert (tmp_path / "c.json").read_text() == KINETO
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.json", "b.json.gz", "c.json"]


def test_saving_under_a_name_replaces_and_saving_new_never_does(trace: Path, tmp_path: Path) -> None:
    target = tmp_path / "b.json"
    target.write_text("old")
    save_copy(trace, target)
    assert target.read_text() == KINETO
    folder = tmp_path / "a" / "folder"
    names = [save_new(trace, folder, "rank3").name for _ in range(3)]
    assert names == ["rank3.json.gz", "rank3.1.json.gz", "rank3.2.json.gz"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_folder_that_is_not_there_is_one_clear_line(trace: Path, tmp_path: Path) -> None:
    with pytest.raises(DiagnoseError, match=r"cannot write .*nowhere/x.json: No such file"):
        save_copy(trace, tmp_path / "nowhere" / "x.json")
