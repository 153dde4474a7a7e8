"""`diagnose devices`: each name its own row, no name somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diagnose.cli import main

# name, dense 16-bit FLOP/s, DRAM bytes/s
ROWS = (
    ("NVIDIA GH200 480GB", 989.5e12, 4000e9),  # neither an H200 nor 480 GB
    ("NVIDIA A10G", 70e12, 600e9),  # not an A10
    ("NVIDIA H100 80GB HBM3", 989.5e12, 3350e9),
    ("NVIDIA H100 NVL", 835.5e12, 3900e9),  # one card of the pair
    ("AMD Instinct MI250X / MI250", 191.5e12, 1638e9),  # one die of the module
    ("NVIDIA A100-SXM4-40GB MIG 7g.40gb", 312e12, 1555e9),
)


@pytest.fixture(autouse=True)
def nobodys_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("name", "flops_per_s", "dram_bytes_per_s"), ROWS)
def test_each_name_has_its_own_row(
    name: str, flops_per_s: float, dram_bytes_per_s: float, capsys: pytest.CaptureFixture[str]
):
    assert main(["devices", name, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == name
    assert found["flops_per_s"]["tensor.float16"] == pytest.approx(flops_per_s)
    assert found["dram_bytes_per_s"] == pytest.approx(dram_bytes_per_s)
    assert found["source"]
    assert {row["origin"] for row in found["ceilings"]} <= {"published", "family", "datasheet"}


def test_a_name_without_a_row_exits_2_and_says_what_to_do(capsys: pytest.CaptureFixture[str]):
    assert main(["devices", "NVIDIA H300"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert "no row for the device 'NVIDIA H300'" in line
    for advice in ("diagnose devices", "diagnose calibrate", "devices.toml", "--devices"):
        assert advice in line


def test_the_table_lists_every_device_whole(capsys: pytest.CaptureFixture[str]):
    from diagnose.devices.datasheet import DEVICES

    assert main(["devices"]) == 0
    text = capsys.readouterr().out
    assert all(spec.name in text for spec in DEVICES)
    assert "…" not in text


class TestAFileOfOnesOwn:
    TEXT = '[[device]]\nname = "NVIDIA H300"\ndram_bytes_per_s = 8e12\nsource = "a preview"\n'

    def test_adds_a_row(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        file = tmp_path / "mine.toml"
        file.write_text(self.TEXT)
        assert main(["devices", "NVIDIA H300", "--devices", str(file)]) == 0
        text = capsys.readouterr().out
        assert "8.00 TB/s" in text
        assert "user" in text
        assert main(["devices", "--devices", str(file)]) == 0
        assert "NVIDIA H300" in capsys.readouterr().out

    def test_is_found_in_its_usual_place(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        folder = tmp_path / "config" / "torch-diagnose"
        folder.mkdir(parents=True)
        (folder / "devices.toml").write_text(self.TEXT)
        assert main(["devices", "NVIDIA H300"]) == 0
        assert "a preview" in capsys.readouterr().out

    def test_that_is_wrong_is_one_line_and_exits_2(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        file = tmp_path / "mine.toml"
        file.write_text('[[device]]\nname = "x"\nflops = 3\n')
        for arguments in (["devices", "--devices", str(file)], ["devices", "--devices", str(tmp_path / "none.toml")]):
            assert main(arguments) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"diagnose: {tmp_path}")
