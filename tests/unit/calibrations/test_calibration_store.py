"""Calibrations in the user's cache: found by what they hold for; what is damaged costs itself and no more."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from calibrations import CPU, H100, calibrated, ceiling

from diagnose.calibrations.store import cache_folder, keep, kept, kept_for, kept_like
from diagnose.errors import DiagnoseError

ROWS = (ceiling("dram", 3e12),)
MINE = calibrated(ROWS, H100)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_DIAGNOSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_kept_is_read_back(cache: Path) -> None:
    path = keep(MINE)
    assert path.parent == cache
    assert path.name.startswith("nvidia-h100-80gb-hbm3-")
    assert kept() == ([MINE], [])
    assert kept_for(H100) == (MINE, None)


def test_nothing_kept_is_nothing_found() -> None:
    assert kept() == ([], [])
    assert kept_for(H100) == (None, None)
    assert kept_like(H100.name, None, None) is None


def test_a_new_one_takes_the_place_of_the_old() -> None:
    keep(MINE)
    newer = msgspec.structs.replace(MINE, epoch_s=MINE.epoch_s + 60)
    keep(newer)
    assert kept() == ([newer], [])


@pytest.mark.parametrize(
    ("change", "word"), [({"driver": "580"}, "driver"), ({"torch": "2.14"}, "torch"), ({"power_limit_w": 350}, "power")]
)
def test_one_for_another_driver_torch_or_power_limit_is_kept_beside_and_not_used(
    change: dict[str, object], word: str
) -> None:
    keep(MINE)
    now = msgspec.structs.replace(H100, **change)
    found, note = kept_for(now)
    assert found is None
    assert note is not None
    assert word in note
    assert "run `diagnose calibrate` again" in note
    keep(calibrated(ROWS, now))
    assert len(kept()[0]) == 2
    assert kept_for(now)[0] is not None


def test_another_card_of_the_same_name_is_another_card() -> None:
    keep(MINE)
    assert kept_for(msgspec.structs.replace(H100, uuid="another")) == (None, None)


def test_a_foreign_trace_finds_it_by_name_and_size() -> None:
    keep(MINE)
    keep(calibrated(ROWS, CPU))
    assert kept_like("nvidia  H100 80GB HBM3", 132, 84_900_000_000) == MINE
    assert kept_like("NVIDIA H100 80GB HBM3", None, None) == MINE
    assert kept_like("NVIDIA H100 80GB HBM3", 114, None) is None, "a slice, or another part"
    assert kept_like("NVIDIA H100 80GB HBM3", 132, 42_000_000_000) is None
    assert kept_like("NVIDIA H100", 132, None) is None
    assert kept_like(CPU.name, None, None) is None, "a CPU recording of others is of another machine"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"version": 1}', b"[" * 100_000, b"x" * (1 << 21),
     msgspec.json.encode(msgspec.structs.replace(MINE, version=99)),
     msgspec.json.encode(calibrated((ceiling("dram", 0.0),), H100)),
     msgspec.json.encode(MINE).replace(b"3000000000000.0", b"1e999")],
)  # fmt: skip
def test_a_damaged_file_is_named_and_ignored(content: bytes, cache: Path) -> None:
    keep(MINE)
    (cache / "bad.json").write_bytes(content)
    assert kept() == ([MINE], ["bad.json"])


def test_a_folder_that_cannot_be_made_is_one_clear_error(cache: Path) -> None:
    cache.write_text("in the way")
    with pytest.raises(DiagnoseError, match="cannot"):
        keep(MINE)
    assert kept() == ([], [])


def test_the_users_cache_is_the_usual_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TORCH_DIAGNOSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "torch-diagnose" / "calibrations"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("~/.cache/torch-diagnose/calibrations").expanduser()
