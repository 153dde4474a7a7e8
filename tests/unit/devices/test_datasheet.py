"""The device table, row by row, and against the sheet of sources where that is at hand."""

import csv
import os
import re
from pathlib import Path

import pytest

from diagnose.devices.datasheet import DEVICES, DeviceSpec
from diagnose.devices.detect import lookup
from diagnose.devices.published import KERNEL_FLOOR_S, KERNEL_GAP_S, L2_BYTES_PER_S, SHARES, SPECIAL_PER_CLOCK_PER_SM

ROOT = Path(__file__).parents[3]
SHEET = Path(os.environ.get("DIAGNOSE_GPU_SPECS", ROOT.parent / "shared" / "data" / "gpu_specs.csv"))

# Not shipped: no sourced number at all, or no sourced name.
LEFT_OUT = {"NVIDIA RTX 6000 Ada Generation", "NVIDIA B100?"}

TERA_COLUMNS = {
    "fp64": "vector.float64", "fp64_tensor": "tensor.float64", "fp32": "vector.float32", "tf32": "tensor.tfloat32",
    "fp16_tensor_fp32acc": "tensor.float16", "bf16_tensor": "tensor.bfloat16", "fp8_dense": "tensor.float8",
    "fp4_dense": "tensor.float4", "int8_dense": "tensor.int8",
}  # fmt: skip


def ids(spec: DeviceSpec) -> str:
    return spec.name


def test_every_name_and_alias_stands_for_one_row():
    names = [name.casefold() for spec in DEVICES for name in spec.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("spec", DEVICES, ids=ids)
class TestEveryRow:
    def test_has_a_source_and_no_doubtful_cell(self, spec: DeviceSpec):
        assert spec.source
        assert "?" not in " ".join((*spec.names, spec.architecture, spec.source))

    def test_has_a_name_as_drivers_report_it(self, spec: DeviceSpec):
        assert all(name.startswith(("NVIDIA ", "Tesla ", "AMD Instinct ", "Intel(R) ")) for name in spec.names)

    def test_has_a_plausible_dense_ridge(self, spec: DeviceSpec):
        for resource in ("tensor.bfloat16", "tensor.float16"):
            ridge = spec.ridge_point(resource)
            assert ridge is None or 20 <= ridge <= 500, "1500 and more would be a sparse rate"

    def test_doubles_its_rate_where_it_halves_its_type(self, spec: DeviceSpec):
        rates = spec.flops_per_s
        half = rates.get("tensor.bfloat16")
        if half and (tf32 := rates.get("tensor.tfloat32")):
            assert half / tf32 == pytest.approx(2, rel=0.02)
        if half and (float8 := rates.get("tensor.float8")):
            assert float8 / half == pytest.approx(2, rel=0.03)
        if (vector := rates.get("vector.float32")) and half:
            assert half > vector

    def test_has_base_units(self, spec: DeviceSpec):
        assert spec.dram_bytes_per_s is None or 1e11 < spec.dram_bytes_per_s < 1e13
        assert spec.memory_bytes is None or 1e10 < spec.memory_bytes < 1e12
        assert spec.l2_bytes is None or 2**22 <= spec.l2_bytes < 2**28
        assert all(1e11 < rate < 2e16 for rate in spec.flops_per_s.values())
        assert all(low < high for low, high in spec.intervals.values())
        assert not set(spec.intervals) & set(spec.flops_per_s)

    def test_sms_times_clock_times_lanes_is_its_float32_rate(self, spec: DeviceSpec):
        """A derivation of its own: 2 FLOP x lanes x SMs x clock. Lanes by architecture, from the whitepapers."""
        lanes = {"Volta": 64, "Turing": 64, "Ampere GA100": 64, "Ampere GA102": 128, "Ada AD102": 128, "Hopper": 128,
                 "CDNA2": 64, "CDNA3": 128, "CDNA4": 128}.get(spec.architecture)  # fmt: skip
        rate = spec.flops_per_s.get("vector.float32")
        if lanes and rate and spec.sms and spec.clock_hz:
            assert 2 * lanes * spec.sms * spec.clock_hz == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize(
    ("name", "ridge"),
    [
        ("NVIDIA A10", 208),
        ("NVIDIA A100-SXM4-40GB", 201),
        ("NVIDIA A100 80GB PCIe", 161),
        ("NVIDIA A100-SXM4-80GB", 153),
        ("NVIDIA H100 PCIe", 378),
        ("NVIDIA H100 80GB HBM3", 295),
        ("NVIDIA H200", 206),
    ],
)
def test_the_half_precision_ridges_everybody_quotes_come_out(name: str, ridge: int):
    assert round(lookup(name).ridge_point("tensor.bfloat16")) == ridge


@pytest.mark.parametrize(
    ("name", "resource", "flops_per_s"),
    [
        ("NVIDIA A10G", "tensor.bfloat16", 70e12),  # not an A10's 125
        ("NVIDIA RTX A6000", "tensor.bfloat16", 154.8e12),  # neither 38.7 (vector) nor 309.7 (sparse)
        ("NVIDIA H100 80GB HBM3", "tensor.bfloat16", 989.5e12),  # neither 1979 (sparse) nor 1070 (SMs x clock)
        ("AMD Instinct MI250X / MI250", "tensor.bfloat16", 191.5e12),  # one die, not the module's 383
        ("NVIDIA GeForce RTX 3090", "tensor.bfloat16", 71e12),  # float32 accumulation is half rate
    ],
)
def test_the_known_traps_are_not_fallen_into(name: str, resource: str, flops_per_s: float):
    assert lookup(name).flops_per_s[resource] == pytest.approx(flops_per_s)


def test_what_was_published_belongs_to_rows_of_the_table():
    names = {spec.name for spec in DEVICES}
    architectures = {spec.architecture for spec in DEVICES}
    assert set(SHARES) <= names
    assert set(L2_BYTES_PER_S) <= names
    assert set(KERNEL_FLOOR_S) | set(KERNEL_GAP_S) | set(SPECIAL_PER_CLOCK_PER_SM) <= architectures
    assert all(0.4 < each.low <= each.high < 1 and each.source for table in SHARES.values() for each in table.values())


def cell(text: str) -> float | None:
    """One sourced number, or None. A remark is fine if it does not speak of another thing (``350 (module)``)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?: \((?P<remark>[^)]*)\))?", text.strip())
    if found is None or (found["remark"] or "") in ("implied", "module", "5000"):
        return None
    return float(found[1])


def sheet_rows():
    if not SHEET.exists():
        return []
    with SHEET.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["device_name_strings"] not in LEFT_OUT]


@pytest.mark.skipif(not SHEET.exists(), reason="the sheet of sources is not here")
class TestAgainstTheSheet:
    def test_every_name_of_the_sheet_has_a_row(self):
        for row in sheet_rows():
            for name in row["device_name_strings"].split("|"):
                assert lookup(name) is not None

    @pytest.mark.parametrize("row", sheet_rows(), ids=lambda row: row["id"])
    def test_the_numbers_are_the_sheets(self, row: dict[str, str]):
        for name in row["device_name_strings"].split("|"):
            spec = lookup(name)
            for column, resource in TERA_COLUMNS.items():
                stated = cell(row[column])
                shipped = spec.flops_per_s.get(resource)
                assert shipped == (None if stated is None else pytest.approx(stated * 1e12)), (name, column)
            bandwidth = cell(row["mem_bw_gbs"])
            assert spec.dram_bytes_per_s == (None if bandwidth is None else pytest.approx(bandwidth * 1e9))
            link = cell(row["link_gbs_unidir"])
            assert spec.link_bytes_per_s == (None if link is None else pytest.approx(link * 1e9))
            if (sms := cell(row["sm_or_cu"])) is not None:
                assert spec.sms == sms
            if (memory := cell(row["mem_gb"])) is not None and "sees" not in row["mem_gb"]:
                assert spec.memory_bytes == memory * 1e9
            if (cache := cell(row["l2_mb"])) is not None and "XCD" not in row["l2_mb"]:
                assert spec.l2_bytes == cache * 2**20
            assert spec.clock_hz is None or spec.clock_hz == cell(row["clock_mhz_boost"]) * 1e6
            if re.fullmatch(r"\d+\.\d", row["cc_or_gfx"]):
                assert spec.compute_capability == tuple(map(int, row["cc_or_gfx"].split(".")))


# Dense 16-bit FLOP with float32 accumulation, a clock and SM: from the makers' architecture whitepapers.
PER_CLOCK = {
    "Volta": 1024, "Turing": 1024, "Ampere GA100": 2048, "Ampere GA102": 1024, "Ada AD102": 1024, "Hopper": 4096,
    "Blackwell GB100": 8192, "CDNA2": 1024, "CDNA3": 2048, "CDNA4": 4096,
}  # fmt: skip
HALF_RATE = {"NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090"}  # sold with half the accumulators switched off
# Tensor cores of Hopper and Blackwell are specified below the vector units' top clock.
OVERSTATED = {
    "NVIDIA H100 PCIe": 1.084, "NVIDIA H100 80GB HBM3": 1.082, "NVIDIA H200": 1.082, "NVIDIA GH200 480GB": 1.082,
    "NVIDIA B200": 1.059,
}  # fmt: skip


def by_formula(spec: DeviceSpec) -> float | None:
    per_clock = PER_CLOCK.get(spec.architecture)
    if per_clock is None or spec.sms is None or spec.clock_hz is None:
        return None
    return per_clock / (2 if spec.name in HALF_RATE else 1) * spec.sms * spec.clock_hz


@pytest.mark.parametrize("spec", DEVICES, ids=ids)
def test_sms_times_flop_per_clock_times_clock_confirms_the_half_precision_rate(spec: DeviceSpec):
    formula, rate = by_formula(spec), spec.flops_per_s.get("tensor.float16")
    if formula is not None and rate is not None:
        assert formula / rate == pytest.approx(OVERSTATED.get(spec.name, 1.0), rel=0.015)


def test_the_formula_is_checked_on_most_rows_and_its_exceptions_are_real():
    checked = {spec.name for spec in DEVICES if by_formula(spec) and "tensor.float16" in spec.flops_per_s}
    assert len(checked) >= 20
    assert set(OVERSTATED) | HALF_RATE <= checked
