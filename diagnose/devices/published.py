"""What others measured on these devices: shares of the datasheet, cache bandwidths, and the slots of tiny kernels.

A share is (lowest, highest) over the measurements that were found; one measurement gives twice the same number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct


class Reached(Struct, frozen=True):
    """What was reached: a share of the datasheet in ``SHARES``, a value in base units elsewhere."""

    low: float
    high: float
    source: str

    @property
    def mid(self) -> float:
        """The middle of the range."""
        return (self.low + self.high) / 2


_MAMF = "maximum achievable matmul FLOP/s, stas00/ml-engineering"
_MAF = "AMD's own maximum achievable FLOP/s"
_RRZE = "te42kyfo/gpu-benches"
_TRACES = "shortest kernels of public torch.profiler traces"


def _gemm(tflops: float, datasheet_tflops: float, source: str = _MAMF) -> Reached:
    share = tflops / datasheet_tflops
    return Reached(share, share, f"{tflops:g} of {datasheet_tflops:g} TFLOP/s, {source}")


_A100_SXM = {"tensor.bfloat16": _gemm(271.2, 312)}
_A100_PCIE = {"tensor.bfloat16": _gemm(252.9, 312)}
_A100_80_COPY = {"dram": Reached(0.86, 0.92, f"DRAM copy and triad, {_RRZE}")}

SHARES: Final[Mapping[str, Mapping[str, Reached]]] = {
    "Tesla V100-PCIE-16GB": {"dram": Reached(861 / 900, 869 / 900, f"DRAM read, {_RRZE}")},
    "Tesla V100-PCIE-32GB": {"dram": Reached(861 / 900, 869 / 900, f"DRAM read, {_RRZE}")},
    "NVIDIA A10G": {"tensor.float16": _gemm(67.1, 70, "a cuBLAS float16 burn")},
    "NVIDIA A40": {"dram": Reached(679 / 696, 679 / 696, f"DRAM read, {_RRZE}")},
    "NVIDIA A100-SXM4-40GB": _A100_SXM,
    "NVIDIA A100-SXM4-80GB": _A100_SXM | _A100_80_COPY,
    "NVIDIA A100-PCIE-40GB": _A100_PCIE,
    "NVIDIA A100 80GB PCIe": _A100_PCIE | _A100_80_COPY,
    # 72 W: power, not silicon, is this card's roof.
    "NVIDIA L4": {
        "tensor.float16": _gemm(87, 121, "NVIDIA developer forum"),
        "tensor.float8": _gemm(188, 242.5, "NVIDIA developer forum"),
        "tensor.int8": _gemm(165, 242, "NVIDIA developer forum"),
    },
    "NVIDIA L40": {"dram": Reached(844 / 864, 844 / 864, f"DRAM read, {_RRZE}")},
    "NVIDIA H100 PCIe": {"dram": Reached(0.92, 0.97, f"DRAM copy and read, {_RRZE}")},
    "NVIDIA H100 80GB HBM3": {"tensor.bfloat16": _gemm(794.5, 989.5), "tensor.float8": _gemm(1402.6, 1979)},
    "NVIDIA H200": {
        "tensor.bfloat16": _gemm(794.5, 989.5),
        "tensor.float8": _gemm(1453.4, 1979),
        "dram": Reached(3996 / 4800, 4028 / 4800, "DRAM copy and scale, gpu-roofline"),
    },
    "NVIDIA B200": {"tensor.bfloat16": _gemm(1745, 2250), "tensor.float8": _gemm(3432.5, 4500)},
    "NVIDIA GB200": {"tensor.bfloat16": _gemm(1822, 2500), "tensor.float8": _gemm(3615.6, 5000)},
    "NVIDIA B300 SXM6 AC": {"tensor.bfloat16": _gemm(1769, 2250), "tensor.float8": _gemm(3353, 4500)},
    "AMD Instinct MI210": {"dram": Reached(1345 / 1600, 1389 / 1600, f"DRAM read, {_RRZE} and rocprof-compute")},
    "AMD Instinct MI300X": {
        "tensor.bfloat16": Reached(0.51, 0.54, f"{_MAF} and {_MAMF}"),
        "tensor.float16": _gemm(654, 1307.4, _MAF),
        "tensor.float8": _gemm(1273, 2614.9, _MAF),
    },
    "AMD Instinct MI325X": {
        "tensor.bfloat16": _gemm(843, 1307.4, _MAF),
        "tensor.float16": _gemm(794, 1307.4, _MAF),
        "tensor.float8": _gemm(1519, 2614.9, _MAF),
    },
    "AMD Instinct MI355X": {"tensor.bfloat16": _gemm(1565, 2516.6)},
}
"""By device name and resource: the share of the datasheet that was reached."""

L2_BYTES_PER_S: Final[Mapping[str, Reached]] = {
    "Tesla V100-PCIE-16GB": Reached(2.31e12, 2.54e12, f"L2 read of up to 1 MiB an SM, {_RRZE}"),
    "NVIDIA A100-SXM4-80GB": Reached(5.26e12, 5.48e12, f"L2 read up to 64 % of its capacity, {_RRZE}"),
    "NVIDIA H100 PCIe": Reached(6.9e12, 7.0e12, f"L2 read up to half its capacity, {_RRZE}"),
    # Their file is named h200, its DRAM rate looks like a GH200's; the chip and its clock are the same.
    "NVIDIA H200": Reached(9.6e12, 10.3e12, f"L2 read up to two thirds of its capacity, {_RRZE}"),
    "NVIDIA L40": Reached(5.2e12, 5.2e12, f"L2 read, {_RRZE}"),
    "AMD Instinct MI210": Reached(4.3e12, 5.0e12, f"L2 read, {_RRZE}"),
}
"""By device name; makers publish none."""

KERNEL_FLOOR_S: Final[Mapping[str, Reached]] = {
    "Volta": Reached(1.25e-6, 1.25e-6, _TRACES),
    "Ampere GA100": Reached(1.34e-6, 1.34e-6, _TRACES),
    "Hopper": Reached(1.1e-6, 1.6e-6, _TRACES),
    "Blackwell GB100": Reached(2.0e-6, 2.0e-6, _TRACES),
    # Launched one by one 1.9 us, inside graphs 4.4, since ROCm counts the dispatch in; a recording shows which.
    "CDNA3": Reached(1.9e-6, 4.4e-6, _TRACES),
}
"""By architecture: seconds that the profiler records for a kernel with next to nothing to do; the low end is meant."""

KERNEL_GAP_S: Final[Mapping[str, Reached]] = {
    "Volta": Reached(0.80e-6, 0.80e-6, _TRACES),
    "Ampere GA100": Reached(1.15e-6, 1.15e-6, _TRACES),
    "Hopper": Reached(1.15e-6, 1.44e-6, _TRACES),
    "Blackwell GB100": Reached(1.63e-6, 1.63e-6, _TRACES),
    "CDNA3": Reached(0.001e-6, 0.001e-6, f"{_TRACES}; inside graphs, where ROCm's records abut"),
}
"""By architecture: seconds between two queued kernels of one stream."""

SPECIAL_PER_CLOCK_PER_SM: Final[Mapping[str, float]] = {"Hopper": 16}
"""By architecture: exp, tanh, reciprocal and the like, a clock and SM."""
