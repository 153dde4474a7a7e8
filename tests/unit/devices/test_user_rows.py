"""What a user writes into a file wins over the table; what is no row is refused in one line."""

from pathlib import Path

import pytest

from diagnose.devices.detect import identify, lookup
from diagnose.devices.user_rows import default_path, user_rows
from diagnose.errors import UnknownDeviceError, UsageError
from diagnose.roofs.ceilings import from_spec

H300 = """
[[device]]
name = "NVIDIA H300"
aliases = ["NVIDIA H300 NVL"]
compute_capability = [11, 0]
sms = 160
memory_bytes = 288e9
l2_bytes = 134217728
dram_bytes_per_s = 8e12
source = "the vendor's preliminary data sheet"
[device.flops_per_s]
"tensor.bfloat16" = 2.5e15
"vector.float32" = 1e14
[device.achievable]
"tensor.bfloat16" = 2.0e15
l2 = 2e13
"""


def rows(tmp_path: Path, text: str):
    file = tmp_path / "devices.toml"
    file.write_text(text)
    return user_rows(file)


def test_a_new_device_is_known_by_name_alias_and_fingerprint(tmp_path: Path):
    own = rows(tmp_path, H300)
    assert identify("nvidia h300", None, None, None, own).by == "user"
    assert lookup("NVIDIA H300 NVL", own).name == "NVIDIA H300"
    assert identify("", (11, 0), 160, 288_000_000_000, own).spec == own[0]
    with pytest.raises(UnknownDeviceError):
        lookup("NVIDIA H300")


def test_its_ceilings_are_the_users(tmp_path: Path):
    ceilings = from_spec("cuda:0", rows(tmp_path, H300)[0])
    found = {row.resource: (row.achievable, row.datasheet, row.origin) for row in ceilings.rows}
    assert found["tensor.bfloat16"] == (2.0e15, 2.5e15, "user")
    assert found["vector.float32"] == (1e14, 1e14, "user")
    assert found["dram"] == (8e12, 8e12, "user")
    assert found["l2"] == (2e13, None, "user")
    assert (ceilings.l2_bytes, ceilings.sms) == (134217728, 160)
    assert ceilings.get("dram").source == "the vendor's preliminary data sheet"


def test_a_row_for_a_device_of_the_table_changes_only_what_it_states(tmp_path: Path):
    own = rows(tmp_path, '[[device]]\nname = "NVIDIA A100-SXM4-40GB"\n[device.achievable]\ndram = 1.4e12\n')
    found = identify("NVIDIA A100-PG509-200", (8, 0), 108, 42297524224, own)
    assert found.by == "user"
    ceilings = from_spec("cuda:0", found.spec)
    assert (ceilings.rate("dram"), ceilings.get("dram").origin) == (1.4e12, "user")
    assert ceilings.get("dram").datasheet == 1555e9
    assert ceilings.rate("tensor.bfloat16") == pytest.approx(271.2e12)
    assert ceilings.get("tensor.bfloat16").origin == "published"


def test_a_slice_of_a_users_device_is_a_share_of_it(tmp_path: Path):
    spec = lookup("NVIDIA H300 MIG 1g.36gb", rows(tmp_path, H300), sms=20)
    assert spec.flops_per_s["tensor.bfloat16"] == pytest.approx(2.5e15 / 8)
    assert spec.dram_bytes_per_s == pytest.approx(1e12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[device]]\nsms = 3\n", "device 1: has no name"),
        ('[[device]]\nname = "A"\nsmss = 3\n', "'smss' is none of"),
        ('[[device]]\nname = "A"\nsms = "many"\n', "sms is no positive number"),
        ('[[device]]\nname = "A"\nsms = true\n', "sms is no positive number"),
        ('[[device]]\nname = "A"\ndram_bytes_per_s = -1\n', "dram_bytes_per_s is no positive number"),
        ('[[device]]\nname = "A"\ndram_bytes_per_s = inf\n', "dram_bytes_per_s is no positive number"),
        ('[[device]]\nname = "A"\ncompute_capability = 9\n', "compute_capability is no pair like [9, 0]"),
        ('[[device]]\nname = "A"\n[device.flops_per_s]\nbf16 = 1\n', "'bf16' is no resource"),
        ('[[device]]\nname = "A"\n[device.flops_per_s]\ndram = 1\n', "'dram' is no resource"),
        ('[[device]]\nname = "A"\n[[device]]\nname = "a"\n', "two rows have one name"),
        ('[device]\nname = "A"\n', "holds [[device]] tables and nothing else"),
        ("colour = 1\n", "holds [[device]] tables and nothing else"),
        ("= nonsense", "is no TOML file of devices"),
    ],
)
def test_what_is_no_row_is_refused_in_one_line_that_names_the_file(tmp_path: Path, text: str, said: str):
    with pytest.raises(UsageError) as raised:
        rows(tmp_path, text)
    assert said in str(raised.value)
    assert "devices.toml" in str(raised.value)
    assert len(" ".join(str(raised.value).split())) < 600


def test_the_default_file_need_not_exist_and_a_named_one_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "torch-diagnose" / "devices.toml"
    assert user_rows() == ()
    default_path().parent.mkdir()
    default_path().write_text(H300)
    assert [row.name for row in user_rows()] == ["NVIDIA H300"]
    with pytest.raises(UsageError, match="cannot be read"):
        user_rows(tmp_path / "missing.toml")


def test_a_changed_file_is_read_again(tmp_path: Path):
    import os

    file = tmp_path / "devices.toml"
    file.write_text(H300)
    assert user_rows(file)[0].sms == 160
    file.write_text(H300.replace("160", "161"))
    os.utime(file, ns=(1, 1))
    assert user_rows(file)[0].sms == 161
