"""Collectives that the host carries out: their time is communication, not idle Python."""

import pytest

import diagnose
from diagnose.analysis import analyse
from tests.builders import TraceBuilder

GLOO = 900  # the backend's own thread


def recording(world=4):
    trace = TraceBuilder(device=None)
    trace.distributed(0, world)
    trace.top["distributedInfo"]["pg_config"] = [{"pg_name": "0", "pg_size": world}]
    trace.step(0, 0, 1000)
    trace.op("aten::mm", 10, 90, inputs=[((8, 8), "float32")] * 2)
    return trace


def parts(document):
    return {row.part: row.ns for row in document.waterfall if row.step is None}


def test_waiting_inside_gloo_is_communication():
    trace = recording()
    trace.op("c10d::allreduce_", 100, 10, inputs=[((1000,), "float32"), None])
    trace.annotation("gloo:all_reduce", 110, 800, thread=GLOO)
    document = analyse(trace.reading())
    assert parts(document)["exposed_communication"] == 800_000
    (row,) = document.communication
    assert (row.collective, row.calls, row.bytes, row.group_size, row.time_ns) == ("all_reduce", 1, 4000, 4, 800_000)
    assert document.verdict.bound == "communication"


def test_an_op_beside_it_owns_the_time():
    trace = recording()
    trace.op("c10d::allreduce_", 100, 10, inputs=[((1000,), "float32"), None])
    trace.annotation("gloo:all_reduce", 110, 800, thread=GLOO)
    trace.op("aten::mm", 200, 300, inputs=[((8, 8), "float32")] * 2)
    (row,) = analyse(trace.reading()).communication
    assert (row.exposed_ns, row.overlapped_ns) == (500_000, 300_000)


def test_runs_belong_to_the_queues_entries_in_order():
    trace = recording()
    trace.annotation("gloo:all_reduce", 5, 20, thread=GLOO)  # put in before the recording began
    for at, size in ((100, 10), (120, 20)):
        trace.op("c10d::allreduce_", at, 5, inputs=[((size,), "float32"), None])
    trace.annotation("gloo:all_reduce", 130, 100, thread=GLOO)
    trace.annotation("gloo:all_reduce", 140, 200, thread=GLOO + 1)
    found = analyse(trace.reading()).communication
    assert {(row.bytes, row.time_ns) for row in found} == {(120, 300_000), (None, 20_000)}


def test_a_barrier_moves_nothing_and_is_no_unknown():
    trace = recording()
    trace.op("c10d::barrier", 100, 5, inputs=[((1,), "int32")])
    trace.annotation("gloo:barrier", 110, 50, thread=GLOO)
    document = analyse(trace.reading())
    (row,) = document.communication
    assert (row.collective, row.bytes, row.note) == ("barrier", 0, None)
    assert not any(found.kernel == "gloo:barrier" for found in document.coverage.uncosted)


def test_an_entry_that_runs_late_belongs_to_the_step_that_put_it_in():
    trace = recording()
    trace.step(1, 1000, 1000)
    trace.op("aten::mm", 1500, 90, inputs=[((8, 8), "float32")] * 2)
    trace.op("c10d::allreduce_", 980, 10, inputs=[((1000,), "float32"), None])
    trace.annotation("gloo:all_reduce", 1005, 100, thread=GLOO)
    steps = analyse(trace.reading()).window.steps
    assert [step.name for step in steps] == ["ProfilerStep#0", "ProfilerStep#1"]


@pytest.mark.parametrize("name", ["gloo_is_nice", "my gloo:all_reduce", "gloo:unheard_of", "torch:all_reduce"])
def test_other_annotations_are_none(name):
    trace = recording()
    trace.annotation(name, 110, 800, thread=GLOO)
    assert analyse(trace.reading()).communication == []


def test_the_parts_still_add_up_to_the_wall(tmp_path):
    trace = recording()
    trace.op("c10d::allreduce_", 100, 10, inputs=[((1000,), "float32"), None])
    trace.annotation("gloo:all_reduce", 110, 2_000, thread=GLOO)  # ends after the last mark
    document = diagnose.read(trace.write(tmp_path / "t.json")).document
    assert sum(parts(document).values()) == document.window.wall_ns
