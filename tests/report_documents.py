"""Complete reports, built by hand: what renderers are tested with. Parts add up; no number comes from the program."""

from __future__ import annotations

import msgspec

from diagnose import schema

H100 = "NVIDIA H100 80GB HBM3"
HOSTILE_NAME = "evil`|<script>alert(1)</script>[red]\x1b[31m@team =cmd*_x_*\n\u202eend"


def steps_of(walls_ns: list[int]) -> list[schema.Step]:
    starts = [sum(walls_ns[:index]) for index in range(len(walls_ns))]
    return [
        schema.Step(f"ProfilerStep#{index}", start, wall, steady=index > 0)
        for index, (start, wall) in enumerate(zip(starts, walls_ns, strict=True))
    ]


def waterfall_of(device: str, step: int | None, parts: dict[str, int]) -> list[schema.WaterfallRow]:
    wall = sum(parts.values())
    return [
        schema.WaterfallRow(None, device, step, part, schema.BOUND_OF_PART[part], ns, ns / wall)
        for part, ns in parts.items()
    ]


def kernel_of(kernel: str, op: str | None, time_ns: int, **other: object) -> schema.KernelRow:
    values: dict[str, object] = {
        "place": 1, "process_rank": None, "device": "cuda:0", "kernel": kernel, "op": op, "signature": None,
        "calls": 1, "time_ns": time_ns, "exposed_ns": time_ns, "share": 0.0, "flops": None, "special_ops": None,
        "bytes_read": None, "bytes_written": None, "extra_bytes": None, "math": None, "arithmetic_intensity": None,
        "achieved_flops_per_s": None, "achieved_bytes_per_s": None, "roof_ns": None, "datasheet_roof_ns": None,
        "efficiency": None, "bound": None, "flags": [], "reasons": [], "cost_source": None, "places": [],
        "gap_ns": None,
    }  # fmt: skip
    return schema.KernelRow(**{**values, **other})


def costed_kernel_of(  # one argument a fact
    kernel: str,
    op: str,
    time_ns: int,
    *,
    bound: str,
    flops: int,
    bytes_accessed: int,
    roof_ns: float,
    calls: int = 1,
    math: str | None = "tensor.bfloat16",
    **other: object,
) -> schema.KernelRow:
    per_call_s = time_ns / calls / 1e9
    return kernel_of(
        kernel, op, time_ns, calls=calls, bound=bound, flops=flops, special_ops=0,
        bytes_read=bytes_accessed - bytes_accessed // 3, bytes_written=bytes_accessed // 3, extra_bytes=0,
        math=math, arithmetic_intensity=flops / bytes_accessed,
        achieved_flops_per_s=flops / per_call_s, achieved_bytes_per_s=bytes_accessed / per_call_s, roof_ns=roof_ns,
        datasheet_roof_ns=roof_ns * 0.8, efficiency=roof_ns * calls / time_ns, cost_source="formula",
        gap_ns=schema.Interval(0, int(time_ns - roof_ns * calls) // 2, int(time_ns - roof_ns * calls)), **other,
    )  # fmt: skip


def ranked(rows: list[schema.KernelRow]) -> list[schema.KernelRow]:
    total = sum(row.time_ns for row in rows)
    by_time = sorted(rows, key=lambda row: -row.time_ns)
    return [
        msgspec.structs.replace(row, place=place, share=row.time_ns / total)
        for place, row in enumerate(by_time, start=1)
    ]


def signature_of(shapes: list[object]) -> schema.Signature:
    count = len(shapes)
    return schema.Signature(shapes, ["float32"] * count, [None] * count, [None] * count)


def place_of(module: str, line: str, time_ns: int) -> schema.Place:
    return schema.Place(module, line, line, "forward", 1, time_ns)


def coverage_of(rows: list[schema.KernelRow], reason: str = "no formula for this op") -> schema.Coverage:
    uncosted = [row for row in rows if row.cost_source is None]
    kernel_ns = sum(row.time_ns for row in rows)
    costed_ns = kernel_ns - sum(row.time_ns for row in uncosted)
    named = [schema.Uncosted(row.op, row.kernel, row.calls, row.time_ns, reason) for row in uncosted]
    return schema.Coverage(kernel_ns, kernel_ns, costed_ns, 0, 0, {"formula": costed_ns} if costed_ns else {}, named)


H100_CEILINGS = [
    schema.Ceiling("cuda:0", "tensor.bfloat16", 7.9e14, 9.895e14, None, None, "published", "a paper"),
    schema.Ceiling("cuda:0", "vector.float32", 5.6e13, 6.69e13, None, None, "family", "a data sheet"),
    schema.Ceiling("cuda:0", "dram", 3.0e12, 3.35e12, None, None, "published", "a paper"),
    schema.Ceiling("cuda:0", "kernel_floor", 1.3e-6, None, 1.1e-6, 1.6e-6, "recording", "this recording"),
]


def gpu_kernels() -> list[schema.KernelRow]:
    return ranked(
        [
            costed_kernel_of(
                "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off",
                "aten::addmm", 3_600_000, bound="compute", flops=68_719_476_736, bytes_accessed=83_886_080,
                roof_ns=87_000, calls=24, places=[place_of("GPT2.h.0.mlp", "/home/u/model/gpt2.py:123", 3_600_000)],
            ),
            costed_kernel_of(
                "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8>(Params)",
                "aten::mm", 900_000, bound="compute", flops=17_179_869_184, bytes_accessed=50_331_648,
                roof_ns=21_746, calls=12, flags=["under-used"], reasons=["too few blocks: 64 of 132 SMs"],
            ),
            costed_kernel_of(
                "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128>, false>(Flash_fwd_params)",
                "aten::_flash_attention_forward", 1_200_000, bound="compute", flops=17_179_869_184,
                bytes_accessed=67_108_864, roof_ns=22_369, calls=24,
            ),
            costed_kernel_of(
                "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, "
                "std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>)",
                "aten::add", 1_400_000, bound="memory", flops=8_388_608, bytes_accessed=50_331_648, roof_ns=16_777,
                calls=48, math="vector.float32",
            ),
            costed_kernel_of(
                "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float>(int)",
                "aten::native_layer_norm", 800_000, bound="memory", flops=58_720_256, bytes_accessed=33_554_432,
                roof_ns=11_185, calls=49, math="vector.float32", flags=["cache-resident"],
            ),
            costed_kernel_of(
                "Memcpy DtoD (Device -> Device)", "aten::copy_", 200_000, bound="memory", flops=0,
                bytes_accessed=33_554_432, roof_ns=11_185, calls=12, math=None,
            ),
            kernel_of(
                "Memcpy HtoD (Pinned -> Device)", "aten::to", 150_000, calls=2, bound="communication",
                bytes_read=65_536,
                bytes_written=65_536, extra_bytes=0, achieved_bytes_per_s=8.7e8, cost_source="metadata",
            ),
            costed_kernel_of(
                "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::func_wrapper_t<float, "
                "at::native::sum_functor<float, float, float>::operator()(at::TensorIterator&)::{lambda(float)#1}>>>()",
                "aten::sum", 60_000, bound="overhead", flops=4096, bytes_accessed=16_384, roof_ns=1300, calls=24,
                math="vector.float32",
            ),
            kernel_of("triton_mystery_fused_7", "mylib::mystery", 450_000, calls=12),
            kernel_of(
                "nvjet_tst_64x64", "aten::mm", 30_000, flops=10**12, bytes_read=10**6, bytes_written=10**6,
                math="tensor.bfloat16", arithmetic_intensity=5e5, achieved_flops_per_s=3.3e16,
                flags=["above-roof"], cost_source="formula",
            ),
        ]
    )  # fmt: skip


def gpu_document() -> schema.Document:
    """Four steps of a GPU forward pass: all bounds, a copy, an uncosted kernel, idle time, unbelieved work."""
    rows = gpu_kernels()
    middle = {
        "compute_roof": 900_000, "compute_above_roof": 480_000, "memory_roof": 310_000, "memory_above_roof": 270_000,
        "exposed_copy": 50_000, "small_kernels": 20_000, "uncosted": 150_000, "idle_launch": 610_000,
        "idle_sync": 90_000, "idle_unknown": 40_000, "idle_slot": 0,
    }  # fmt: skip
    by_step = [{**middle, "idle_launch": idle} for idle in (2_610_000, 610_000, 590_000, 700_000)]
    whole = {part: sum(step[part] for step in by_step) for part in middle}
    return schema.Document(
        schema_version=schema.SCHEMA_VERSION,
        tool=schema.Tool("torch-diagnose", "0.1.0"),
        source=schema.Source("trace", "step.json.gz", 4321, schema.SourceOptions(True, True, False)),
        recording=schema.RecordingCost(2_400_000, 2_920_000),
        devices=[schema.DeviceRow(None, "cuda:0", H100, "gpu", "name")],
        ceilings=H100_CEILINGS,
        ridges=[
            schema.Ridge("cuda:0", "tensor.bfloat16", 7.9e14 / 3.0e12),
            schema.Ridge("cuda:0", "vector.float32", 5.6e13 / 3.0e12),
        ],
        window=schema.Window("1700000000000000123", sum(whole.values()), steps_of([sum(s.values()) for s in by_step])),
        totals=schema.Totals(2_350_000_000_000, 5_300_000_000, 1.7e14, 0.172, 208, 208, 41_000, 4_100_000_000),
        verdict=schema.Verdict(
            "compute", 0.47, "overhead", 190_000,
            "compute-bound: 47 % of the step; overhead is next with 25 %",
            "addmm and attention own 1.38 ms of 2.92 ms and reach 58 to 62 % of the roof",
            "run it under torch.compile: 24 addmm could give back up to 0.5 ms a step",
        ),
        waterfall=waterfall_of("cuda:0", None, whole)
        + [row for index, parts in enumerate(by_step) for row in waterfall_of("cuda:0", index, parts)],
        coverage=coverage_of(rows),
        kernels=rows,
        findings=[],
        notes=["the first step is left out of medians"],
    )  # fmt: skip


def unknown_device_document() -> schema.Document:
    """As the GPU's, but for a device without ceilings: nothing that needs a roof is known."""
    known = gpu_document()
    rows = [
        msgspec.structs.replace(
            row, roof_ns=None, datasheet_roof_ns=None, efficiency=None, bound=None, math=None, gap_ns=None, flags=[]
        )
        for row in known.kernels
    ]
    parts = {"uncosted": 2_180_000, "idle_launch": 740_000}
    return msgspec.structs.replace(
        known,
        devices=[schema.DeviceRow(None, "cuda:0", "Frobnicator 9000", "gpu", None)],
        ceilings=[], ridges=[], kernels=rows,
        window=schema.Window("17", 2_920_000, [schema.Step("step", 0, 2_920_000, True)]),
        waterfall=waterfall_of("cuda:0", None, parts) + waterfall_of("cuda:0", 0, parts),
        totals=msgspec.structs.replace(known.totals, mfu=None),
        verdict=schema.Verdict(
            None, None, None, 2_180_000, "no verdict: the ceilings of Frobnicator 9000 are unknown",
            "75 % of the step belongs to no kind of limit", "name the device with --device, or run diagnose calibrate",
        ),
        notes=["Frobnicator 9000 is not in the device table"],
    )  # fmt: skip


def deviceless_document() -> schema.Document:
    """A trace that lacks its device events."""
    return schema.Document(
        schema_version=schema.SCHEMA_VERSION,
        tool=schema.Tool("torch-diagnose", "0.1.0"),
        source=schema.Source("trace", "host.json", 99, schema.SourceOptions(False, False, False)),
        recording=schema.RecordingCost(None, None),
        devices=[], ceilings=[], ridges=[],
        window=schema.Window("0", 5_000_000, [schema.Step("step", 0, 5_000_000, True)]),
        totals=schema.Totals(None, None, None, None, 12, 0, None, None),
        verdict=schema.Verdict(
            None, None, None, 0, "no verdict: the trace holds no device activity",
            "12 launches were recorded, and no kernel", "record again with ProfilerActivity.CUDA",
        ),
        waterfall=[],
        coverage=schema.Coverage(0, 0, 0, 0, 0, {}, []),
        kernels=[], findings=[],
        notes=["the trace holds no device activity: its device events are missing"],
    )  # fmt: skip


def cpu_document() -> schema.Document:
    """A forward pass recorded on the CPU."""
    rows = ranked(
        [
            costed_kernel_of(
                "aten::addmm", "aten::addmm", 9_000_000, bound="compute", flops=1_208_000_000, bytes_accessed=9_000_000,
                roof_ns=520_000, calls=12, math="tensor.float32", device="cpu",
                signature=signature_of([[768], [128, 768], [768, 3072], []]),
            ),
            costed_kernel_of(
                "aten::gelu", "aten::gelu", 2_400_000, bound="memory", flops=8_000_000, bytes_accessed=8_000_000,
                roof_ns=160_000, calls=12, math="vector.float32", device="cpu",
            ),
            costed_kernel_of(
                "aten::add", "aten::add", 40_000, bound="overhead", flops=64, bytes_accessed=768, roof_ns=1500,
                calls=20, math="vector.float32", device="cpu",
            ),
            kernel_of("aten::clone", "aten::clone", 300_000, calls=4, device="cpu", bound="memory", bytes_read=8_000,
                      bytes_written=8_000, achieved_bytes_per_s=2.1e8, flops=0, cost_source="formula"),
        ]
    )  # fmt: skip
    parts = {
        "compute_roof": 6_240_000, "compute_above_roof": 2_760_000, "memory_roof": 1_920_000,
        "memory_above_roof": 780_000, "small_kernels": 40_000, "idle_launch": 1_260_000,
    }  # fmt: skip
    return schema.Document(
        schema_version=schema.SCHEMA_VERSION,
        tool=schema.Tool("torch-diagnose", "0.1.0"),
        source=schema.Source("live", None, 800, schema.SourceOptions(True, True, True)),
        recording=schema.RecordingCost(12_000_000, 13_000_000),
        devices=[schema.DeviceRow(None, "cpu", "AMD EPYC 7B13, 2 threads", "cpu", None)],
        ceilings=[
            schema.Ceiling("cpu", "tensor.float32", 2.3e12, None, None, None, "measured", "a matmul timed just now"),
            schema.Ceiling("cpu", "dram", 5.0e10, None, None, None, "measured", "a copy timed just now"),
        ],
        ridges=[schema.Ridge("cpu", "tensor.float32", 2.3e12 / 5.0e10)],
        window=schema.Window("5", sum(parts.values()), [schema.Step("profile", 0, sum(parts.values()), True)]),
        totals=schema.Totals(14_600_000_000, 210_000_000, 1.1e12, None, 0, 48, None, None),
        verdict=schema.Verdict(
            "compute", 0.69, "memory", 0, "compute-bound: 69 % of the step; memory is next with 21 %",
            "addmm owns 9.00 ms of 13.0 ms at 69 % of what this CPU's matmul reaches", "use bfloat16 or more threads",
        ),
        waterfall=waterfall_of("cpu", None, parts) + waterfall_of("cpu", 0, parts),
        coverage=coverage_of(rows), kernels=rows, findings=[], notes=[],
    )  # fmt: skip


def hostile_document() -> schema.Document:
    """Every name from the trace is an attack on a terminal, a web page, a spreadsheet or a table."""
    known = gpu_document()
    rows = [
        msgspec.structs.replace(
            row, kernel=HOSTILE_NAME, op=f"={HOSTILE_NAME}", places=[place_of(HOSTILE_NAME, HOSTILE_NAME, row.time_ns)]
        )
        for row in known.kernels
    ]
    return msgspec.structs.replace(
        known, kernels=rows, notes=[HOSTILE_NAME], coverage=coverage_of(rows),
        devices=[schema.DeviceRow(None, "cuda:0", HOSTILE_NAME, "gpu", None)],
        verdict=msgspec.structs.replace(known.verdict, verdict=HOSTILE_NAME, why=HOSTILE_NAME, next=HOSTILE_NAME),
        window=msgspec.structs.replace(
            known.window, steps=[msgspec.structs.replace(step, name=HOSTILE_NAME) for step in known.window.steps]
        ),
    )  # fmt: skip


ALL_DOCUMENTS = {
    "gpu": gpu_document,
    "unknown_device": unknown_device_document,
    "deviceless": deviceless_document,
    "cpu": cpu_document,
    "hostile": hostile_document,
}
