"""Compiled regions of a CPU recording: their kernels cannot be seen, and that is said instead of called overhead."""

from diagnose.analysis import analyse
from diagnose.compiled import HIDDEN
from diagnose.items import collect
from diagnose.pricing.pricing import price_items
from tests.builders import TraceBuilder


def compiled(*, training: bool = False, kernels: bool = False) -> TraceBuilder:
    """A compiled region of 100 us with a product of 40 us and 50 us of something else inside."""
    built = TraceBuilder(device=None)
    built.op("Torch-Compiled Region: 0/0", 0, 100)
    if training:
        built.op("CompiledFunction", 2, 96)
    built.op("aten::mm", 5, 40, inputs=[((64, 64), "float32"), ((64, 64), "float32")])
    if kernels:
        built.op("graph_0_cpp_fused_gelu_0", 46, 50)
    return built


def priced(built: TraceBuilder) -> dict[str, object]:
    recording = collect(built.reading().trace)
    found = price_items(recording)
    names = [recording.trace.strings[name] for name in recording.items.name]
    return {
        name: found.works[work] if work >= 0 else found.reasons[reason]
        for name, work, reason in zip(names, found.work.tolist(), found.reason.tolist(), strict=True)
    }


def test_the_own_time_of_a_region_without_kernels_is_unknown_and_not_overhead() -> None:
    assert priced(compiled())["Torch-Compiled Region: 0/0"] == HIDDEN


def test_of_nested_regions_only_the_innermost_holds_kernels() -> None:
    found = priced(compiled(training=True))
    assert found["CompiledFunction"] == HIDDEN
    assert found["Torch-Compiled Region: 0/0"] != HIDDEN


def test_a_note_says_how_long_they_last_and_what_to_do() -> None:
    (note,) = collect(compiled().reading().trace).notes
    assert note == (
        "0.1 ms are the own time of compiled regions, inside which nothing is recorded: C++ kernels are recorded only "
        "if torch._inductor.config.cpp.enable_kernel_profile = True was set before compiling"
    )


def test_with_inductors_kernel_profile_the_kernels_stand_for_themselves() -> None:
    built = compiled(training=True, kernels=True)
    found = priced(built)
    assert found["graph_0_cpp_fused_gelu_0"] == "a compiled C++ kernel: Inductor records no shapes for it"
    assert HIDDEN not in found.values()
    assert collect(built.reading().trace).notes == ()


def test_a_recording_without_compiled_regions_says_nothing_of_them() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::mm", 5, 40, inputs=[((64, 64), "float32"), ((64, 64), "float32")])
    assert collect(built.reading().trace).notes == ()


def test_torch_compiles_own_time_is_idle_and_what_it_traces_is_no_work():
    """The frames as torch 2.13 writes them; the op inside runs on tensors without data."""
    trace = TraceBuilder(device=None)
    trace.op("aten::relu", 0, 10, inputs=[((64,), "float32")])
    trace.op("dynamo", 20, 100)
    trace.op("_compile.compile_inner (dynamo_timed)", 25, 90)
    trace.op("aten::mm", 30, 40, inputs=[((64, 64), "float32"), ((64, 64), "float32")])
    trace.op("aten::relu", 130, 10, inputs=[((64,), "float32")])
    document = analyse(trace.reading())
    assert {row.op for row in document.kernels} == {"aten::relu"}
    parts = {row.part: row.ns for row in document.waterfall if row.step is None}
    assert (parts["idle_compile"], parts["idle_launch"]) == (100_000, 20_000)


def test_a_recording_of_nothing_but_compiling_is_read():
    trace = TraceBuilder(device=None)
    trace.op("dynamo", 20, 100)
    document = analyse(trace.reading())
    assert document.kernels == []
    assert sum(row.ns for row in document.waterfall if row.step is None) == document.window.wall_ns
