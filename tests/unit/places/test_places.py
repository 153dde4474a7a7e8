"""Where each op was called: from our recorder's key, or from the Python frames of a foreign recording."""

from __future__ import annotations

import msgspec
import pytest

from diagnose.places.places import find_places, place_of_call, place_of_op
from diagnose.trace.extras import CodePlace, Extras, decode_extras, encode_extras
from tests.builders import TraceBuilder, launched

UP = CodePlace("Net.up", "net.py:9", "train.py:3")
DOWN = CodePlace("Net.down", "net.py:10", "train.py:3")
BACK = CodePlace(None, "train.py:4", "train.py:4")


def frame(trace: TraceBuilder, name: str, start: float, dur: float, thread: int = 100) -> None:
    trace.event("python_function", name, start, dur, tid=thread)


def placed(trace: TraceBuilder, extras: Extras | None = None) -> dict[str, CodePlace]:
    """The place of each op by its name."""
    read = trace.reading().trace
    places = find_places(read, extras)
    names = [read.strings[name] for name in read.ops.name.tolist()]
    return {name: place_of_op(places, row) for row, name in enumerate(names)}


def test_an_op_has_the_place_that_the_recorder_kept_and_gives_it_to_what_it_calls() -> None:
    trace = TraceBuilder()
    outer = trace.op("aten::linear", 10, 20)
    trace.op("aten::addmm", 12, 10)
    trace.op("aten::relu", 40, 5)
    found = placed(trace, Extras(places=(UP,), op_places={outer: 0}))
    assert found["aten::linear"] == found["aten::addmm"] == UP
    assert found["aten::relu"] == CodePlace()


def test_a_launch_is_where_its_op_is() -> None:
    trace = TraceBuilder()
    op = launched(trace, "aten::mm", None, at=100, dur=10)
    trace.launch(500, 2)  # outside any op
    read = trace.reading().trace
    places = find_places(read, Extras(places=(UP,), op_places={op: 0}))
    assert [place_of_call(places, read, call) for call in (0, 1, -1, 99)] == [UP, CodePlace(), CodePlace(), CodePlace()]


def test_a_backward_op_is_where_its_forward_op_is() -> None:
    trace = TraceBuilder()
    up = trace.op("aten::up", 10, 5, **{"Sequence number": 7})
    down = trace.op("aten::down", 20, 5, **{"Sequence number": 8})
    # On the CPU the backward pass runs inside the call of backward(), which has a place of its own.
    engine = trace.op("engine: down", 40, 10, **{"Sequence number": 8, "Fwd thread id": 1})
    trace.op("aten::mm_down", 42, 5)
    trace.op("engine: up", 60, 10, thread=200, **{"Sequence number": 7, "Fwd thread id": 1})
    trace.op("aten::mm_up", 62, 5, thread=200)
    grad = trace.op("AccumulateGrad", 80, 5)
    extras = Extras(places=(UP, DOWN, BACK), op_places={up: 0, down: 1, engine: 2, grad: 2})
    found = placed(trace, extras)
    assert found["engine: down"] == found["aten::mm_down"] == DOWN
    assert found["engine: up"] == found["aten::mm_up"] == UP
    assert found["AccumulateGrad"] == BACK


def test_a_backward_written_by_the_user_keeps_its_own_line() -> None:
    trace = TraceBuilder()
    forward = trace.op("MyFunction", 10, 5, **{"Sequence number": 7})
    engine = trace.op("engine", 40, 20, **{"Sequence number": 7, "Fwd thread id": 1})
    inner = trace.op("aten::mm", 45, 5)
    own = CodePlace("Net.up", "net.py:30", "net.py:30")
    found = placed(trace, Extras(places=(UP, BACK, own), op_places={forward: 0, engine: 1, inner: 2}))
    assert (found["engine"], found["aten::mm"]) == (UP, own)


def test_two_forward_threads_with_the_same_numbers_are_not_guessed_between() -> None:
    trace = TraceBuilder()
    ids = [trace.op(f"forward {thread}", 10, 5, thread=thread, **{"Sequence number": 7}) for thread in (1, 2)]
    trace.op("engine", 40, 10, thread=3, **{"Sequence number": 7, "Fwd thread id": 1})
    found = placed(trace, Extras(places=(UP, DOWN), op_places={ids[0]: 0, ids[1]: 1}))
    assert found["engine"] == CodePlace()


def test_a_foreign_recording_tells_modules_by_class_and_functions_by_their_def() -> None:
    trace = TraceBuilder()
    frame(trace, "train.py(20): step", 0, 100)
    frame(trace, "nn.Module: Net_0", 5, 80)
    frame(trace, "torch/nn/modules/module.py(1): _call_impl", 6, 78)
    frame(trace, "transformers/net.py(30): forward", 7, 76)
    for index in range(2):
        frame(trace, f"nn.Module: Linear_{index}", 10 + 30 * index, 20)
        trace.op(f"aten::linear{index}", 12 + 30 * index, 10)
    trace.op("aten::add", 70, 5)
    trace.op("aten::sum", 90, 5)
    trace.op("aten::outside", 200, 5)
    found = placed(trace)
    step = "train.py:20 def step"
    assert found["aten::linear0"] == CodePlace("Net.Linear_0", "transformers/net.py:30 def forward", step)
    assert found["aten::linear1"] == CodePlace("Net.Linear_1", "transformers/net.py:30 def forward", step)
    assert found["aten::add"] == CodePlace("Net", "transformers/net.py:30 def forward", step)
    assert found["aten::sum"] == CodePlace(None, step, step)
    assert found["aten::outside"] == CodePlace()


def test_frames_of_another_thread_say_nothing() -> None:
    trace = TraceBuilder()
    frame(trace, "train.py(20): step", 0, 100, thread=200)
    trace.op("aten::other", 10, 5, thread=200)
    trace.op("aten::mm", 10, 5, thread=100)
    assert placed(trace)["aten::mm"] == CodePlace()


def test_torchs_own_frames_are_not_kept() -> None:
    trace = TraceBuilder()
    trace.op("aten::mm", 10, 5)
    for name in ("torch/nn/functional.py(3): relu", "<built-in function iter>", "typing.py(2187): cast"):
        frame(trace, name, 0, 100)
    assert trace.reading().trace.frames is None


@pytest.mark.parametrize(
    "extras",
    [
        Extras(places=(UP,), op_places={1: 5}),
        Extras(places=(), op_places={1: 0}),
        Extras(places=(UP,), op_places={-1: 0, 77: 0}),
    ],
)
def test_an_index_that_leads_nowhere_says_nothing(extras: Extras) -> None:
    trace = TraceBuilder()
    trace.op("aten::mm", 10, 5, external_id=1)
    assert placed(trace, extras)["aten::mm"] == CodePlace()


def test_an_absurd_id_costs_that_field_alone() -> None:
    trace = TraceBuilder()
    trace.op("aten::mm", 10, 5, external_id=1)
    trace.top["diagnose"] = {
        "places": [["Net", "a.py:1", None]],
        "op_places": {"9" * 30: 0, "1": 0},
        "torch_version": "2.13",
    }
    read = trace.reading()
    places = find_places(read.trace, read.extras)
    assert read.extras is not None
    assert read.extras.torch_version == "2.13"
    assert place_of_op(places, 0) == CodePlace("Net", "a.py:1", None)


def test_places_survive_the_file_and_a_strange_one_costs_only_places() -> None:
    extras = Extras(places=(UP,), op_places={3: 0}, torch_version="2.13")
    assert decode_extras(encode_extras(extras)) == (extras, None)
    strange = msgspec.json.encode({"places": [[1, 2, 3]], "op_places": {"3": 0}, "torch_version": "2.13"})
    read, note = decode_extras(strange)
    assert read is not None
    assert (read.places, read.torch_version) == ((), "2.13")
    assert note is not None and "places" in note  # noqa: PT018


def test_a_recording_without_stacks_has_no_places() -> None:
    trace = TraceBuilder()
    trace.op("aten::mm", 10, 5)
    assert not find_places(trace.reading().trace, None).is_known
