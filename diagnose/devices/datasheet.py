"""What the makers publish of each device: one row a device, its source beside it.

A number stands here only if a source states one value for exactly this part: what two sources state differently is an
interval, what nobody states is None. Dense rates only (no structured sparsity), one direction of a link, and for
AMD's and Intel's two-die modules the half that torch sees as one device. Names are what the driver reports, letter by
letter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct, field

Vendor = Literal["NVIDIA", "AMD", "Intel"]


class DeviceSpec(Struct, frozen=True):
    """One device as its maker describes it. None is: no source, or sources that differ.

    Attributes:
        name: As the driver reports it.
        aliases: Other names under which drivers report the same part.
        compute_capability: As torch reports it (for AMD the first two digits of the gfx name), None for Intel.
        memory_bytes: The maker's round figure in decimal bytes; drivers report somewhat less, or count in GiB.
        l2_bytes: L2 cache.
        llc_bytes: A further cache between L2 and DRAM, shared by the whole device.
        clock_hz: Highest clock of the vector units; tensor cores may be specified at a lower one.
        flops_per_s: Dense, multiply-add = 2, by resource (``tensor.bfloat16``, ``vector.float32``...).
        link_bytes_per_s: To peer devices, one way, all links together.
        intervals: (lowest, highest) by resource where sources differ.
        stated: What the user says is reached, by resource as in ``ceilings``; it wins over everything published.
    """

    name: str
    aliases: tuple[str, ...]
    vendor: Vendor
    architecture: str
    compute_capability: tuple[int, int] | None
    sms: int | None
    memory_bytes: int | None
    dram_bytes_per_s: float | None
    l2_bytes: int | None
    llc_bytes: int | None
    clock_hz: float | None
    flops_per_s: Mapping[str, float]
    link_bytes_per_s: float | None
    pcie_generation: int | None
    intervals: Mapping[str, tuple[float, float]]
    source: str
    stated: Mapping[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The name and its aliases."""
        return (self.name, *self.aliases)

    def ridge_point(self, resource: str) -> float | None:
        """FLOP per byte at which ``resource`` and DRAM take equally long, by the datasheet."""
        rate = self.flops_per_s.get(resource)
        return None if rate is None or self.dram_bytes_per_s is None else rate / self.dram_bytes_per_s


class _Row(Struct, frozen=True):
    """A row in the units that datasheets use: GB, GB/s, MiB of cache, MHz, TFLOP/s."""

    names: tuple[str, ...]
    architecture: str
    compute_capability: tuple[int, int] | None
    sms: int | None
    memory_gb: float | None
    dram_gb_per_s: float | None
    tera: Mapping[str, float]
    source: str
    l2_mib: int | None = None
    llc_mib: int | None = None
    clock_mhz: float | None = None
    link_gb_per_s: float | None = None
    pcie: int | None = None
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def _spec(row: _Row) -> DeviceSpec:
    def scaled(value: float | None, unit: float) -> float | None:
        return None if value is None else value * unit

    def mebibytes(value: int | None) -> int | None:
        return None if value is None else value * 2**20

    return DeviceSpec(
        name=row.names[0],
        aliases=row.names[1:],
        vendor="AMD" if row.names[0].startswith("AMD") else "Intel" if row.names[0].startswith("Intel") else "NVIDIA",
        architecture=row.architecture,
        compute_capability=row.compute_capability,
        sms=row.sms,
        memory_bytes=None if row.memory_gb is None else round(row.memory_gb * 1e9),
        dram_bytes_per_s=scaled(row.dram_gb_per_s, 1e9),
        l2_bytes=mebibytes(row.l2_mib),
        llc_bytes=mebibytes(row.llc_mib),
        clock_hz=scaled(row.clock_mhz, 1e6),
        flops_per_s={resource: value * 1e12 for resource, value in row.tera.items()},
        link_bytes_per_s=scaled(row.link_gb_per_s, 1e9),
        pcie_generation=row.pcie,
        intervals=row.intervals,
        source=row.source,
    )


def _tera(half: float | None = None, **others: float) -> dict[str, float]:
    """TFLOP/s by resource; ``half`` is float16 and bfloat16 with float32 accumulation (V100 and T4 lack the latter)."""
    named = {
        "tf32": "tensor.tfloat32", "fp8": "tensor.float8", "fp4": "tensor.float4", "int8": "tensor.int8",
        "fp16": "tensor.float16", "fp64_tensor": "tensor.float64", "fp32_matrix": "tensor.float32",
        "fp32": "vector.float32", "fp64": "vector.float64",
    }  # fmt: skip
    rates = {} if half is None else {"tensor.bfloat16": half, "tensor.float16": half}
    return rates | {named[key]: value for key, value in others.items()}


_LIGHTNING = "Lightning throughput.py (cites NVIDIA datasheets)"
_ML_ENGINEERING = "stas00/ml-engineering accelerator and network tables"
_V100_PAPER = f"NVIDIA A100 whitepaper table; {_LIGHTNING}"
_A100_PAPER = f"NVIDIA A100 whitepaper table; {_LIGHTNING}; {_ML_ENGINEERING}"
_HOPPER = f"{_LIGHTNING}; {_ML_ENGINEERING}; NVIDIA product pages"
_BLACKWELL = f"NVIDIA Blackwell datasheet; {_ML_ENGINEERING}"
_AMD = f"torch _inductor/analysis/device_info.py (cites AMD PDFs); {_ML_ENGINEERING}; ROCm docs, GPU specifications"
_INTEL = "torchtitan tools/utils.py (cites Intel's oneAPI GPU guide); Intel ARK, half of the two-stack package"

_V100 = _tera(fp16=125, fp32=15.7, fp64=7.8)
_V100_PCIE = _tera(fp16=112, fp32=14.0, fp64=7.0)
_A100 = _tera(312, tf32=156, int8=624, fp64_tensor=19.5, fp32=19.5, fp64=9.7)
_H100 = _tera(989.5, tf32=494.5, fp8=1979, int8=1979, fp64_tensor=67, fp32=67, fp64=34)
_CDNA3 = _tera(1307.4, tf32=653.7, fp8=2614.9, fp32_matrix=163.4, fp32=163.4)

# What this table leaves out on purpose: the RTX 6000 Ada and the B100 (no sourced number, or no sourced name);
# fp8 of GeForce cards (two values by accumulator); fp64 and int8 of B300 (cut from B200's, no source says to what);
# Intel's Max 1100, Arc and Gaudi (no source with both a dense rate and the name that torch reports).
_ROWS: Final = (
    _Row(("Tesla V100-SXM2-16GB",), "Volta", (7, 0), 80, 16, 900, _V100, _V100_PAPER,
         l2_mib=6, clock_mhz=1530, link_gb_per_s=150, pcie=3),
    _Row(("Tesla V100-SXM2-32GB",), "Volta", (7, 0), 80, 32, 900, _V100, _V100_PAPER,
         l2_mib=6, clock_mhz=1530, link_gb_per_s=150, pcie=3),
    _Row(("Tesla V100-PCIE-16GB",), "Volta", (7, 0), 80, 16, 900, _V100_PCIE, _LIGHTNING,
         l2_mib=6, clock_mhz=1380, pcie=3),
    _Row(("Tesla V100-PCIE-32GB",), "Volta", (7, 0), 80, 32, 900, _V100_PCIE, _LIGHTNING,
         l2_mib=6, clock_mhz=1380, pcie=3),
    _Row(("Tesla T4", "NVIDIA T4"), "Turing", (7, 5), 40, 16, 320, _tera(fp16=65, int8=130, fp32=8.1), _LIGHTNING,
         l2_mib=4, clock_mhz=1590),
    _Row(("NVIDIA A10",), "Ampere GA102", (8, 6), 72, 24, 600, _tera(125, tf32=62.5, int8=250, fp32=31.2, fp64=0.98),
         f"{_LIGHTNING}; composer speed_monitor.py", l2_mib=6, clock_mhz=1695),
    # Not an A10: 80 SMs at half the tensor rate. 80 x 512 FLOP x 1.71 GHz, borne out by a measured 67.1 TFLOP/s.
    _Row(("NVIDIA A10G",), "Ampere GA102", (8, 6), 80, 24, 600, _tera(70),
         "SM count and tensor-core rate of the AWS g5 part, confirmed by a cuBLAS measurement", l2_mib=6),
    _Row(("NVIDIA A30",), "Ampere GA100", (8, 0), 56, 24, 933, _tera(fp32=10.3, fp64=5.2), "TechPowerUp",
         l2_mib=24, clock_mhz=1440),
    _Row(("NVIDIA A40",), "Ampere GA102", (8, 6), 84, 48, 696, _tera(149.7, tf32=74.8, int8=299.3, fp32=37.4),
         f"NVIDIA A40 datasheet; {_LIGHTNING}", link_gb_per_s=56.25, pcie=4),
    _Row(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PG509-200"), "Ampere GA100", (8, 0), 108, 40, 1555, _A100, _A100_PAPER,
         l2_mib=40, clock_mhz=1410, link_gb_per_s=300, pcie=4),
    _Row(("NVIDIA A100-SXM4-80GB",), "Ampere GA100", (8, 0), 108, 80, 2039, _A100, _A100_PAPER,
         l2_mib=40, clock_mhz=1410, link_gb_per_s=300, pcie=4),
    _Row(("NVIDIA A100-PCIE-40GB",), "Ampere GA100", (8, 0), 108, 40, 1555, _A100, _A100_PAPER,
         l2_mib=40, clock_mhz=1410, link_gb_per_s=300, pcie=4),
    _Row(("NVIDIA A100 80GB PCIe",), "Ampere GA100", (8, 0), 108, 80, 1935, _A100, _A100_PAPER,
         l2_mib=40, clock_mhz=1410, link_gb_per_s=300, pcie=4),
    _Row(("NVIDIA L4",), "Ada AD104", (8, 9), None, 24, 300, _tera(121, tf32=60, fp8=242.5, int8=242, fp32=30.3),
         f"NVIDIA product page; {_LIGHTNING}"),
    # Float32 accumulation at half rate, as on GeForce; the L40S runs it in full.
    _Row(("NVIDIA L40",), "Ada AD102", (8, 9), None, 48, 864, _tera(181, tf32=90.5, int8=362, fp32=90.5), _LIGHTNING),
    _Row(("NVIDIA L40S",), "Ada AD102", (8, 9), None, 48, 864, _tera(362, tf32=183, fp8=733, int8=733, fp32=91.6),
         f"NVIDIA product page; {_ML_ENGINEERING}"),
    _Row(("NVIDIA RTX A6000",), "Ampere GA102", (8, 6), 84, 48, 768,
         _tera(154.8, tf32=77.4, int8=309.7, fp32=38.7, fp64=1.2), f"torchtitan tools/utils.py; {_LIGHTNING}",
         l2_mib=6, clock_mhz=1800, pcie=4),
    _Row(("NVIDIA GeForce RTX 3090",), "Ampere GA102", (8, 6), 82, 24, 936,
         _tera(71, tf32=35.6, int8=284, fp32=35.6), f"NVIDIA GA102 whitepaper; {_LIGHTNING}",
         l2_mib=6, clock_mhz=1695),
    _Row(("NVIDIA GeForce RTX 4090",), "Ada AD102", (8, 9), 128, 24, 1008,
         _tera(165.2, tf32=82.6, int8=660.6, fp32=82.6), "NVIDIA Ada whitepaper 2.1, appendix A",
         l2_mib=72, clock_mhz=2520),
    _Row(("NVIDIA GeForce RTX 5090",), "Blackwell GB202", (12, 0), None, 32, 1792, _tera(209.5, fp4=1676),
         "NVIDIA RTX Blackwell whitepaper, appendix A", clock_mhz=2407),
    _Row(("NVIDIA H100 PCIe",), "Hopper", (9, 0), 114, 80, 2000,
         _tera(756, tf32=378, fp8=1513, int8=1513, fp64_tensor=51, fp32=51.2, fp64=25.6),
         f"{_HOPPER}; composer speed_monitor.py; triton proton specs.py", l2_mib=50, clock_mhz=1755, pcie=5),
    _Row(("NVIDIA H100 80GB HBM3",), "Hopper", (9, 0), 132, 80, 3350, _H100, _HOPPER,
         l2_mib=50, clock_mhz=1980, link_gb_per_s=450, pcie=5),
    # Product pages list a bridged pair (188 GB, 7.8 TB/s); this is one card.
    _Row(("NVIDIA H100 NVL",), "Hopper", (9, 0), None, 94, 3900,
         _tera(835.5, tf32=417.5, fp8=1670.5, int8=1670.5, fp32=60, fp64=30), _HOPPER, pcie=5),
    _Row(("NVIDIA H200",), "Hopper", (9, 0), 132, 141, 4800, _H100, _HOPPER,
         l2_mib=60, clock_mhz=1980, link_gb_per_s=450, pcie=5),
    _Row(("NVIDIA H200 NVL",), "Hopper", (9, 0), None, 141, 4800, _tera(int8=1680, fp32=60, fp64=30), _HOPPER, pcie=5,
         intervals={"tensor.bfloat16": (835.5e12, 840e12), "tensor.float16": (835.5e12, 840e12),
                    "tensor.tfloat32": (417.5e12, 420e12)}),
    # "480GB" is the CPU's memory.
    _Row(("NVIDIA GH200 480GB",), "Hopper", (9, 0), 132, 96, 4000, _H100, f"{_ML_ENGINEERING}; NVIDIA product pages",
         clock_mhz=1980, pcie=5),
    _Row(("NVIDIA B200",), "Blackwell GB100", (10, 0), 148, 180, None,
         _tera(2250, fp8=4500, fp4=9000, int8=4500, fp64_tensor=37, fp64=37), _BLACKWELL,
         l2_mib=126, clock_mhz=1965, link_gb_per_s=900, pcie=5,
         intervals={"dram": (7700e9, 8000e9), "vector.float32": (75e12, 80e12), "tensor.tfloat32": (1100e12, 1125e12)}),
    _Row(("NVIDIA GB200",), "Blackwell GB100", (10, 0), None, 186, 8000,
         _tera(2500, tf32=1250, fp8=5000, fp4=10000, int8=5000, fp64_tensor=40, fp32=80, fp64=40), _BLACKWELL,
         l2_mib=126, clock_mhz=2062, link_gb_per_s=900),
    _Row(("NVIDIA B300 SXM6 AC",), "Blackwell Ultra GB110", (10, 3), None, None, 8000,
         _tera(2250, tf32=1125, fp8=4500, fp32=80), _ML_ENGINEERING, link_gb_per_s=900),
    _Row(("AMD Instinct MI210",), "CDNA2", (9, 0), 104, 64, 1600, _tera(181, int8=181, fp64_tensor=45.3), _AMD,
         l2_mib=8, pcie=4),
    # Datasheets list the module (383 TFLOP/s, 3277 GB/s, 128 GB); torch sees one of its two dies.
    _Row(("AMD Instinct MI250X / MI250", "AMD Instinct MI250X"), "CDNA2", (9, 0), 110, 64, 1638,
         _tera(191.5, int8=191.5, fp32=23.95), _AMD, l2_mib=8, clock_mhz=1700),
    _Row(("AMD Instinct MI300X", "AMD Instinct MI300X OAM", "AMD Instinct MI300X VF"), "CDNA3", (9, 4), 304, 192, 5300,
         _CDNA3 | _tera(int8=2614.9, fp64_tensor=163.4), _AMD,
         l2_mib=32, llc_mib=256, clock_mhz=2100, link_gb_per_s=448, pcie=5),
    _Row(("AMD Instinct MI325X",), "CDNA3", (9, 4), 304, 256, 6000, _CDNA3 | _tera(int8=2600), _AMD,
         l2_mib=32, llc_mib=256, clock_mhz=2100, link_gb_per_s=448, pcie=5),
    _Row(("AMD Instinct MI350X",), "CDNA4", (9, 5), 256, 288, 8000,
         _tera(2309.6, fp8=4614, int8=4614, fp64_tensor=72.1, fp64=72.1, fp32_matrix=144.2, fp32=144.2), _AMD,
         l2_mib=32, llc_mib=256, clock_mhz=2200, link_gb_per_s=535.5, pcie=5),
    _Row(("AMD Instinct MI355X",), "CDNA4", (9, 5), 256, 288, 8000,
         _tera(2516.6, fp4=10100, int8=5000, fp32_matrix=157.3, fp32=157.3), _AMD,
         l2_mib=32, llc_mib=256, clock_mhz=2400, link_gb_per_s=535.5, pcie=5),
    # One of the package's two stacks, as torch sees it; of its 512 vector engines some systems have 448 switched on.
    _Row(("Intel(R) Data Center GPU Max 1550",), "Xe HPC", None, None, 64, 1638.4, {}, _INTEL, pcie=5,
         intervals={"tensor.bfloat16": (298.2e12, 340.8e12), "tensor.float16": (298.2e12, 340.8e12)}),
)  # fmt: skip

DEVICES: Final[tuple[DeviceSpec, ...]] = tuple(_spec(row) for row in _ROWS)
"""Every device with a row."""
