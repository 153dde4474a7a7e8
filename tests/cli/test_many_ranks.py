"""``diagnose report`` with the recordings of several ranks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diagnose.cli import main
from tests.rank_traces import rank_trace, written

ARRIVALS = [[100, 900], [100, 800]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written(tmp_path, {rank: rank_trace(rank, ARRIVALS) for rank in range(2)})
    return tmp_path


@pytest.mark.parametrize("how", ["folder", "pattern", "paths"])
def test_a_folder_a_pattern_and_paths_are_the_same(folder: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {
        "folder": [str(folder)],
        "pattern": [str(folder / "*.json.gz")],
        "paths": [str(folder / f"rank{rank}.json.gz") for rank in (1, 0)],
    }[how]
    assert main(["report", *given]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Ranks:")
    assert "rank 1 is last at 2 of 2 collectives" in " ".join(out.split())
    assert "Traceback" not in err


def test_json_has_every_rank(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ranks.json"
    assert main(["report", str(folder), "--format", "json", "-o", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [row["rank"] for row in found["table"]] == [0, 1]
    assert len(found["ranks"]) == 2
    assert found["collectives"][0]["wait_ns"] == [800_000, 0]
    assert capsys.readouterr().out == ""


def test_markdown_has_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("- **Ranks:**")
    assert sum(line.startswith("| ") for line in out.splitlines()) == 2 + 2 + 2 + 1


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--plot", "x.png"], "--plot is for one recording"),
        (["--format", "csv"], "--format csv is for one recording"),
        (["--dask", "tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["no_such_rank*.json"], "no file fits this pattern"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, extra: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diagnose.ranks.gathering.CONNECT_S", 1)
    assert main(["report", str(folder), *extra]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in last
