"""Kineto's JSON to columns: what is read, what is dropped, and that one strange event costs that event at most."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from diagnose.errors import TraceError
from diagnose.trace import chrome, kineto
from diagnose.trace.chrome import parse_trace
from diagnose.trace.extras import Extras, encode_extras
from diagnose.trace.tables import COPY, KERNEL, SET, Trace
from diagnose.work import TensorMeta
from tests.builders import EPOCH_US, TraceBuilder


def parsed(content: bytes | str | dict[str, Any]) -> Trace:
    if isinstance(content, dict):
        content = json.dumps(content)
    return parse_trace(content.encode() if isinstance(content, str) else content, "t.json").trace


def names(trace: Trace, column: Any) -> list[str]:
    return [trace.strings[index] for index in column.tolist()]


def small() -> TraceBuilder:
    """Two ops, each with a launch and a kernel."""
    built = TraceBuilder()
    for number, start in enumerate((10, 60)):
        external = built.op(f"op{number}", start, 20, inputs=[((8 + number, 4), "float32"), 1.5])
        correlation = built.launch(start + 5, 3, external_id=external)
        built.kernel(f"kernel{number}", start + 15, 25.125, correlation=correlation, external_id=external)
    return built


def test_columns_of_a_small_trace() -> None:
    trace = small().reading().trace
    assert trace.epoch_ns == (EPOCH_US + 10) * 1000
    assert names(trace, trace.ops.name) == ["op0", "op1"]
    assert trace.ops.start.tolist() == [0, 50_000]
    assert trace.ops.end.tolist() == [20_000, 70_000]
    assert trace.calls.start.tolist() == [5_000, 55_000]
    assert trace.calls.op.tolist() == [0, 1]
    assert trace.activities.start.tolist() == [15_000, 65_000]
    assert trace.activities.end.tolist() == [40_125, 90_125]
    assert trace.activities.grid.tolist() == [[264, 1, 1]] * 2
    assert trace.end_ns == 90_125
    assert trace.event_count == 6
    assert trace.has_shapes
    assert trace.signatures[int(trace.ops.signature[1])].inputs == (TensorMeta((9, 4), "float32", (4, 1)), 1.5)
    (device,) = trace.devices
    assert (device.index, device.name, device.kind) == (0, "NVIDIA H100 80GB HBM3", "gpu")
    assert (device.compute_capability, device.sms, device.memory_bytes) == ((9, 0), 132, 84942979072)


def test_events_may_come_in_any_order() -> None:
    built = small()
    straight = built.reading().trace
    built.events.reverse()
    turned = built.reading().trace
    for table in ("ops", "calls", "activities"):
        assert getattr(turned, table).start.tolist() == getattr(straight, table).start.tolist()
    assert turned.calls.op.tolist() == straight.calls.op.tolist()


def test_kinds_of_activity() -> None:
    built = TraceBuilder()
    built.kernel("k", 1, 1)
    built.copy("Memcpy DtoD (Device -> Device)", 3, 1, size=1024)
    built.memset(5, 1, size=None)
    activities = built.reading().trace.activities
    assert activities.kind.tolist() == [KERNEL, COPY, SET]
    assert activities.bytes.tolist() == [-1, 1024, -1]


def test_what_an_annotation_or_a_flow_says_is_no_activity() -> None:
    built = small()
    built.annotation("mine", 0, 100)
    built.event("gpu_user_annotation", "mine", 0, 100)
    built.event("overhead", "Activity Buffer Request", 0, 1)
    flow = built.event("ac2g", "ac2g", 0, None)
    flow["ph"] = "s"
    trace = built.reading().trace
    assert len(trace.activities.start) == 2
    assert names(trace, trace.annotations.name) == ["mine"]
    assert names(trace, trace.overheads.name) == ["Activity Buffer Request"]
    assert trace.notes == ()


@pytest.mark.parametrize("rank", [0, 5])
def test_the_rank(rank: int) -> None:
    built = small()
    built.distributed(rank, 8)
    trace = built.reading().trace
    assert (trace.process_rank, trace.world_size) == (rank, 8)


@pytest.mark.parametrize(
    ("name", "is_blocking"),
    [
        ("cudaDeviceSynchronize", True), ("cudaStreamSynchronize", True), ("cudaEventSynchronize", True),
        ("hipDeviceSynchronize", True), ("cudaMemcpy", True), ("cudaMemcpy2D", True), ("hipMemcpyWithStream", True),
        ("cudaMemcpyAsync", False), ("cudaLaunchKernel", False), ("cudaStreamWaitEvent", False), ("cudaMalloc", False),
    ],
)  # fmt: skip
def test_which_calls_wait(name: str, is_blocking: bool) -> None:
    built = small()
    built.launch(1, 1, name=name)
    trace = built.reading().trace
    assert trace.calls.is_blocking[names(trace, trace.calls.name).index(name)] == is_blocking


# ---- One strange event


STRANGE: list[Any] = [None, [], {}, [[[]]], {"a": [1]}, "text", "", 1.5, -7, 1 << 70, 1e300, True]


def mutated(change: Callable[[dict[str, Any]], None], cat: str) -> Trace:
    """The small trace with the second event of a category changed."""
    built = small()
    change([event for event in built.events if event["cat"] == cat][1])
    return built.reading().trace


def assert_first_pair_is_whole(trace: Trace) -> None:
    op = names(trace, trace.ops.name).index("op0")
    kernel = names(trace, trace.activities.name).index("kernel0")
    call = trace.calls.correlation.tolist().index(1)
    assert trace.activities.end[kernel] - trace.activities.start[kernel] == 25_125
    assert trace.activities.correlation[kernel] == 1
    assert trace.calls.op[call] == op
    assert trace.signatures[int(trace.ops.signature[op])].inputs == (TensorMeta((8, 4), "float32", (4, 1)), 1.5)


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize("cat", ["cpu_op", "cuda_runtime", "kernel"])
@pytest.mark.parametrize("field", ["ph", "cat", "name", "pid", "tid", "ts", "dur", "args"])
def test_a_strange_value_costs_its_event_at_most(field: str, cat: str, value: object) -> None:
    trace = mutated(lambda event: event.update({field: value}), cat)
    assert_first_pair_is_whole(trace)
    assert trace.event_count == 6


ARGUMENTS = [
    ("cpu_op", ["External id", "Sequence number", "Fwd thread id", "Input Dims", "Input type", "Input Strides",
                "Concrete Inputs"]),
    ("cuda_runtime", ["External id", "correlation"]),
    ("kernel", ["External id", "correlation", "device", "stream", "grid", "block", "registers per thread",
                "shared memory", "bytes", "Collective name"]),
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize(("cat", "key"), [(cat, key) for cat, keys in ARGUMENTS for key in keys])
def test_a_strange_argument_costs_that_argument(cat: str, key: str, value: object) -> None:
    trace = mutated(lambda event: event["args"].update({key: value}), cat)
    assert_first_pair_is_whole(trace)
    assert (len(trace.ops.start), len(trace.calls.start), len(trace.activities.start)) == (2, 2, 2)
    [trace.signatures[index].inputs for index in range(len(trace.signatures))]  # made without an error
    if key != "correlation" and cat == "kernel":
        assert trace.activities.correlation.tolist() == [1, 2]


def test_a_number_written_as_text_is_taken() -> None:
    # One event of a public trace says "bytes": "16", and one writer quotes ids.
    trace = mutated(lambda event: event["args"].update({"correlation": "2", "stream": "9"}), "kernel")
    assert trace.activities.correlation.tolist() == [1, 2]
    assert trace.activities.stream.tolist() == [7, 9]


@pytest.mark.parametrize("missing", ["ts", "dur", "name", "pid", "tid", "args"])
def test_a_missing_field_costs_its_event_at_most(missing: str) -> None:
    trace = mutated(lambda event: event.pop(missing), "kernel")
    assert_first_pair_is_whole(trace)
    is_left_out = missing in {"ts", "dur"}
    assert len(trace.activities.start) == (1 if is_left_out else 2)
    assert any("1 events without a usable" in note for note in trace.notes) == is_left_out


@pytest.mark.parametrize("value", [None, 1, "text", [], [{}]])
def test_an_event_that_is_no_object(value: object) -> None:
    built = small()
    built.events.insert(3, value)  # type: ignore[arg-type]
    trace = built.reading().trace
    assert_first_pair_is_whole(trace)
    assert any("left out" in note for note in trace.notes)


def test_a_negative_length_is_none() -> None:
    trace = mutated(lambda event: event.update(dur=-5), "kernel")
    kernel = names(trace, trace.activities.name).index("kernel1")
    assert trace.activities.end[kernel] == trace.activities.start[kernel]


def test_negative_times() -> None:
    built = TraceBuilder(epoch_us=0)
    built.kernel("early", -10.5, 2)
    built.kernel("late", 1, 2)
    trace = built.reading().trace
    assert trace.epoch_ns == -10_500
    assert trace.activities.start.tolist() == [0, 11_500]


def test_duplicated_events_are_two_events() -> None:
    built = small()
    built.events += built.events
    trace = built.reading().trace
    assert len(trace.activities.start) == 4
    assert trace.activities.correlation.tolist() == [1, 1, 2, 2]
    assert trace.ops.parent.tolist() == [-1, 0, -1, 2]


@pytest.mark.parametrize("number", [b"NaN", b"nan", b"-nan", b"inf", b"-inf", b"Infinity", b"-Infinity"])
def test_bare_nan_and_inf(number: bytes) -> None:
    built = small()
    built.events[5]["args"]["est. achieved occupancy %"] = msgspec.Raw(b"777")
    trace = parsed(built.bytes().replace(b"777", number))
    assert_first_pair_is_whole(trace)
    assert len(trace.activities.start) == 2


def test_bytes_that_are_no_utf8() -> None:
    trace = parsed(small().bytes().replace(b'"kernel1"', b'"kern\xff\xfeel1"'))
    assert_first_pair_is_whole(trace)
    assert [name for name in names(trace, trace.activities.name) if name.startswith("kern\ufffd")]


def test_lone_surrogates_and_nul_in_names() -> None:
    trace = parsed(small().bytes().replace(b'"kernel1"', b'"k\\u0000\\ud83d\\ude00"'))
    assert names(trace, trace.activities.name)[1] == "k\0\U0001f600"


@pytest.mark.parametrize("value", STRANGE, ids=repr)
@pytest.mark.parametrize(
    "key", ["deviceProperties", "distributedInfo", "record_shapes", "with_stack", "schemaVersion", "diagnose"]
)
def test_a_strange_header_is_no_error(key: str, value: object) -> None:
    built = small()
    built.top[key] = value
    assert_first_pair_is_whole(built.reading().trace)


@pytest.mark.parametrize("key", ["id", "name", "totalGlobalMem", "computeMajor", "numSms"])
@pytest.mark.parametrize("value", STRANGE, ids=repr)
def test_a_strange_device_property_is_unknown(key: str, value: object) -> None:
    built = small()
    built.top["deviceProperties"][0][key] = value
    trace = built.reading().trace
    assert_first_pair_is_whole(trace)
    assert len(trace.devices) == 1


# ---- What is missing


def test_a_device_in_the_header_but_no_activity() -> None:
    built = TraceBuilder()
    built.op("aten::add", 0, 5)
    assert built.reading().trace.missing_devices


def test_device_calls_but_no_activity() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::add", 0, 5)
    built.launch(1, 2)
    assert built.reading().trace.missing_devices


def test_a_recording_of_the_cpu_lacks_nothing() -> None:
    built = TraceBuilder(device=None)
    built.op("aten::add", 0, 5)
    assert not built.reading().trace.missing_devices


def test_no_shapes() -> None:
    built = TraceBuilder()
    built.op("aten::add", 0, 5)
    trace = built.reading().trace
    assert not trace.has_shapes
    assert trace.signatures[0].inputs is None


def test_categories_that_nobody_knows_are_said_where_there_is_nothing_else() -> None:
    built = TraceBuilder()
    built.event("npu_kernel", "k", 0, 1)
    assert any("npu_kernel" in note for note in built.reading().trace.notes)


def test_peak_memory_is_the_devices() -> None:
    built = small()
    for device_type, allocated in ((0, 9999), (1, 100), (1, 700), (1, 300)):
        event = built.event("cpu_instant_event", "[memory]", 0, None,
                            **{"Total Allocated": allocated, "Device Type": device_type})  # fmt: skip
        event["ph"] = "i"
    assert built.reading().trace.peak_memory_bytes == 700
    assert small().reading().trace.peak_memory_bytes is None


def test_a_collective_keeps_what_it_says_of_itself_and_nothing_else() -> None:
    built = small()
    built.collective(100, 10, elements=1024, host="secret-host")
    trace = built.reading().trace
    (found,) = trace.metadata
    assert (found["elements_in"], found["dtype"], found["group_size"]) == (1024, "float32", 8)
    assert "host" not in found
    assert trace.activities.metadata.tolist() == [-1, -1, 0]


def test_our_own_key_comes_back() -> None:
    built = small()
    built.top["diagnose"] = json.loads(encode_extras(Extras(plain_step_ns=(5,), recorded_step_ns=(7,))))
    reading = built.reading()
    assert reading.extras is not None
    assert (reading.extras.step_plain_ns, reading.extras.step_recorded_ns) == (5, 7)
    assert small().reading().extras is None


# ---- What is no trace


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "JSON, but not a Kineto trace"),
        ("{}", "it has no `traceEvents`"),
        ("7", "JSON, but not a Kineto trace"),
        ("null", "JSON, but not a Kineto trace"),
        ('{"traceEvents": {}}', "JSON, but not a Kineto trace"),
        ('{"traceEvents": null}', "JSON, but not a Kineto trace"),
        ('{"traceEvents": []}', "the trace has no events"),
        ('{"traceEvents": [1, 2]}', "the trace has no events"),
        ("plain text", "is not JSON"),
        ("{'traceEvents': []}", "is not JSON"),
        ('{"traceEvents": [] } trailing', "is not JSON"),
        ('{"traceEvents": [', "cut off"),
        ("\x00\x01\x02", "is not JSON"),
    ],
)
def test_what_is_no_trace_is_one_sentence(content: str, message: str) -> None:
    with pytest.raises(TraceError, match=rf"^t\.json: .*{message}"):
        parsed(content)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 0.95, 0.999])
def test_a_trace_cut_anywhere_is_said_to_be_cut(share: float) -> None:
    content = small().bytes()
    with pytest.raises(TraceError, match="cut off"):
        parsed(content[: int(len(content) * share)])


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("where", ["top", "event", "args", "header"])
def test_deep_nesting_is_one_sentence_or_no_matter(opening: bytes, where: str) -> None:
    closing = b"]" if opening == b"[" else b"}"
    deep = opening * 100_000 + b"1" + closing * 100_000
    built = small()
    places = {"top": built.top, "event": built.events[5], "args": built.events[5]["args"],
              "header": built.top["deviceProperties"][0]}  # fmt: skip
    places[where]["strange"] = msgspec.Raw(b"987654321")
    content = built.bytes().replace(b"987654321", deep)
    with pytest.raises(TraceError, match="nested too deeply"):
        parsed(content)


def test_the_garbage_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    small().reading()
    assert gc.isenabled()
    gc.disable()
    try:
        small().reading()
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(TraceError):
        parsed("[]")
    assert gc.isenabled()


@pytest.mark.parametrize(
    "spelling",
    [b"odd\x01name", b"odd\\ud800name", b"odd\\udc00name", b"odd\xffname"],
    ids=["control", "high-surrogate", "low-surrogate", "no-utf8"],
)
def test_one_odd_character_in_a_name_costs_nothing_else(spelling):
    built = TraceBuilder()
    built.kernel("a", 0, 1)
    built.kernel("oddname", 5, 1)
    trace = parse_trace(built.bytes().replace(b"oddname", spelling), "odd.json").trace
    assert len(trace.activities.start) == 2
    assert trace.strings[trace.activities.name[0]] == "a"


def test_a_pair_of_surrogates_is_one_character():
    built = TraceBuilder()
    built.kernel("smile \N{GRINNING FACE}", 0, 1)
    content = built.bytes().replace("\N{GRINNING FACE}".encode(), b"\\ud83d\\ude00").replace(b'"ph"', b'"x":nan,"ph"')
    trace = parse_trace(content, "pair.json").trace
    assert "smile \N{GRINNING FACE}" in trace.strings


def test_a_byte_order_mark_is_passed_over():
    built = TraceBuilder()
    built.kernel("a", 0, 1)
    assert len(parse_trace(b"\xef\xbb\xbf" + built.bytes(), "bom.json").trace.activities.start) == 1


def tables_of(trace: Trace) -> list[Any]:
    """Every column as lists, and every distinct call."""
    tables = (trace.ops, trace.calls, trace.activities, trace.annotations, trace.overheads, trace.waits)
    columns = [getattr(table, name).tolist() for table in tables for name in table.__struct_fields__]
    return [trace.strings, trace.threads, trace.notes, trace.metadata, list(trace.signatures), *columns]


@pytest.mark.parametrize(
    "odd",
    [
        {"ph": "X", "cat": "some_new_category", "name": "n", "pid": 1, "tid": 1, "ts": 1, "dur": 1},
        {"ph": "C", "cat": "", "name": "counter", "pid": 1, "ts": 1, "args": {"value": 1}},
        {"ph": "B", "name": "begun", "pid": 1, "tid": 1, "ts": 1},
        {"name": "no phase at all", "cat": "cpu_op"},
    ],
)
def test_another_writers_event_changes_nothing_but_the_count(odd: dict[str, Any]) -> None:
    # Kineto's own spellings are decoded in one go; anything else sends the file down the general way.
    built = small()
    flow = built.event("ac2g", "ac2g", 0, None)
    flow["ph"] = "s"
    usual = built.reading().trace
    built.events.append(odd)
    general = built.reading().trace
    assert tables_of(general) == tables_of(usual)
    assert general.event_count == usual.event_count + 1


def test_an_op_that_is_no_complete_event_is_no_row() -> None:
    built = small()
    for phase in ("s", "f", "i", "M"):
        built.event("cpu_op", "not an op", 0, 5)["ph"] = phase
    assert names(built.reading().trace, built.reading().trace.ops.name) == ["op0", "op1"]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_ops_are_read_in_parts_of_any_size(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    built = TraceBuilder()
    for number in range(7):
        shape = ((4, number % 3), "float32")
        built.op(f"aten::op{number % 2}", 10 * number, 5, inputs=[shape] if number != 5 else None)
    whole = tables_of(built.reading().trace)
    monkeypatch.setattr(chrome, "_PART", size)
    monkeypatch.setattr(kineto, "_AT_ONCE", size)
    assert tables_of(built.reading().trace) == whole


def test_one_odd_argument_is_left_out_alone_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kineto, "_AT_ONCE", 2)
    built = TraceBuilder()
    for number in range(5):
        built.kernel("k", 10 * number, 5, correlation=number + 1)
    kernels = [event for event in built.events if event.get("cat") == "kernel"]
    kernels[2]["args"]["registers per thread"] = "many"
    kernels[2]["args"]["stream"] = 9
    found = built.reading().trace.activities
    assert found.registers.tolist()[2] == -1
    assert found.correlation.tolist() == [1, 2, 3, 4, 5]
    assert found.stream.tolist()[2] == 9
    assert len(set(found.registers.tolist()[:2] + found.registers.tolist()[3:])) == 1
