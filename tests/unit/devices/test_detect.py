"""A device is its name, or what it is made of, or unknown. Never nearly something."""

import pytest

from diagnose.devices.datasheet import DEVICES
from diagnose.devices.detect import identify, lookup
from diagnose.errors import UnknownDeviceError


@pytest.mark.parametrize(
    ("name", "row", "by"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "name"),
        ("nvidia  h100 80gb HBM3 ", "NVIDIA H100 80GB HBM3", "name"),
        ("NVIDIA A100-PG509-200", "NVIDIA A100-SXM4-40GB", "alias"),
        ("AMD Instinct MI300X VF", "AMD Instinct MI300X", "alias"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 480GB", "name"),
        ("NVIDIA A10G", "NVIDIA A10G", "name"),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL", "name"),
        ("AMD Instinct MI250X / MI250", "AMD Instinct MI250X / MI250", "name"),
        ("NVIDIA T4", "Tesla T4", "alias"),
    ],
)
def test_a_known_name_is_enough(name: str, row: str, by: str):
    found = identify(name, None, None, None)
    assert (found.spec.name, found.by) == (row, by)


@pytest.mark.parametrize("name", ["NVIDIA H100", "H100", "NVIDIA A100", "A10", "NVIDIA H200 141GB", "GH200", ""])
def test_a_part_of_a_name_is_no_name(name: str):
    assert identify(name, None, None, None).spec is None


@pytest.mark.parametrize(
    ("seen", "row"),
    [
        # As torch reported them on real machines.
        (((9, 0), 132, 85018279936), "NVIDIA H100 80GB HBM3"),
        (((9, 4), 304, 206141652992), "AMD Instinct MI300X"),
        (((9, 4), 304, 205571227648), "AMD Instinct MI300X"),
        (((7, 5), 40, 15843721216), "Tesla T4"),
        (((8, 6), 80, 23683989504), "NVIDIA A10G"),
        (((8, 0), 108, 42297524224), "NVIDIA A100-SXM4-40GB"),
    ],
)
def test_a_nameless_device_is_known_by_its_fingerprint(seen: tuple[tuple[int, int], int, float], row: str):
    found = identify("", *seen)
    assert (found.spec.name, found.by) == (row, "fingerprint")


def test_a_tie_of_equal_ceilings_is_resolved_and_said():
    found = identify("", (8, 0), 108, 42297524224)
    assert found.candidates == ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB")


def test_a_tie_of_different_ceilings_is_no_answer():
    """WHEN the 80 GB A100s, 2039 and 1935 GB/s, cannot be told apart THEN neither is taken and both are named."""
    found = identify("", (8, 0), 108, 85_031_714_816)
    assert found.spec is None
    assert found.by is None
    assert found.candidates == ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe")


@pytest.mark.parametrize("seen", [((9, 0), 114, 85e9), ((9, 0), 132, 65e9), ((8, 9), 132, 85e9), ((8, 0), 14, 5e9)])
def test_one_fact_that_differs_excludes_a_row(seen: tuple[tuple[int, int], int, float]):
    assert "NVIDIA H100 80GB HBM3" not in identify("", seen[0], seen[1], int(seen[2])).candidates


class TestSlices:
    """NVIDIA's MIG: SMs in sevenths (of those that slices may use), memory and its bandwidth in eighths."""

    @pytest.mark.parametrize(
        ("name", "sms", "bf16", "dram", "l2_mib"),
        [
            # 14 of 108 SMs x 312 TFLOP/s; 5 of 40 GB: an eighth of 1555 GB/s and of 40 MiB
            ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 14, 312e12 * 14 / 108, 1555e9 / 8, 5),
            # 42 of 108 SMs, but half the memory
            ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 42, 312e12 * 42 / 108, 1555e9 / 2, 20),
            # one seventh of the SMs with two eighths of the memory; +me adds the media engines
            ("NVIDIA A100-SXM4-80GB MIG 1g.20gb", 14, 312e12 * 14 / 108, 2039e9 / 4, 10),
            ("NVIDIA A100-SXM4-80GB MIG 1g.10gb+me", 14, 312e12 * 14 / 108, 2039e9 / 8, 5),
            # a compute instance of one slice inside a GPU instance of three
            ("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb", 14, 312e12 * 14 / 108, 1555e9 / 2, 20),
            ("NVIDIA H100 80GB HBM3 MIG 7g.80gb", 132, 989.5e12, 3350e9, 50),
            ("NVIDIA H200 MIG 1g.18gb", 16, 989.5e12 * 16 / 132, 4800e9 / 8, 7.5),
        ],
    )
    def test_have_their_share(self, name: str, sms: int, bf16: float, dram: float, l2_mib: float):
        found = identify(name, (9, 9), sms, 1)
        assert found.by == "name"
        assert (found.spec.name, found.spec.sms, found.spec.l2_bytes) == (name, sms, l2_mib * 2**20)
        assert found.spec.flops_per_s["tensor.bfloat16"] == pytest.approx(bf16)
        assert found.spec.dram_bytes_per_s == pytest.approx(dram)
        assert "a slice" in found.spec.source

    def test_without_an_sm_count_have_what_the_profile_grants(self):
        spec = lookup("NVIDIA A100-SXM4-40GB MIG 3g.20gb")
        assert spec.flops_per_s["tensor.bfloat16"] == pytest.approx(312e12 * 3 / 7)
        assert "3 of 7 slices" in spec.source

    @pytest.mark.parametrize(
        "name",
        [
            "NVIDIA A100-SXM4-40GB MIG 9g.40gb", "NVIDIA A100-SXM4-40GB MIG 7g.80gb", "NVIDIA A100 MIG 1g.5gb",
            "NVIDIA A100-SXM4-40GB MIG", "MIG 1g.5gb", "NVIDIA A100-SXM4-40GB MIG 0g.5gb",
        ],
    )  # fmt: skip
    def test_that_cannot_be_are_unknown_whatever_their_facts_resemble(self, name: str):
        assert identify(name, (8, 0), 108, 42297524224).spec is None
        with pytest.raises(UnknownDeviceError):
            lookup(name)


def test_every_rows_own_facts_lead_back_to_it():
    for spec in DEVICES:
        if spec.sms is not None and spec.memory_bytes is not None:
            assert spec.name in identify("", spec.compute_capability, spec.sms, spec.memory_bytes).candidates


def test_a_name_without_a_row_gets_a_plain_answer():
    with pytest.raises(UnknownDeviceError) as raised:
        lookup("NVIDIA H300")
    text = str(raised.value)
    assert text.startswith("no row for the device 'NVIDIA H300'")
    assert "'NVIDIA H200'" in text
    assert "none of which was taken" in text
    assert "calibrate" in text


def test_a_hostile_name_does_not_reach_the_terminal():
    with pytest.raises(UnknownDeviceError) as raised:
        lookup("\x1b[31m" + "x" * 10_000)
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 1000
