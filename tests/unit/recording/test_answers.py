"""What torch says of an op without a formula travels in the recording, and is read without torch."""

import json

import pytest

from diagnose import costs
from diagnose.costs import registry
from diagnose.costs.registry import price
from diagnose.recording.answers import with_outputs
from diagnose.trace.chrome import read_trace
from diagnose.trace.embed import append_key
from diagnose.trace.extras import Extras, ListTensor, encode_extras
from diagnose.work import TensorMeta, Work
from tests.builders import TraceBuilder

pytest.importorskip("torch")

POINTS = [((8, 3), "float32"), ((5, 3), "float32"), 2.0, None]


@pytest.fixture
def unpriced(monkeypatch):
    """``aten::_cdist_forward`` and ``aten::lerp`` as ops that nobody wrote a formula for."""
    costs.load()
    for name in ("aten::_cdist_forward", "aten::lerp", "aten::cat"):
        monkeypatch.delitem(registry._FORMULAS, name, raising=False)


def recording(path, *, children=False):
    built = TraceBuilder(device=None)
    built.op("aten::mm", 0, 5, inputs=[((4, 4), "float32"), ((4, 4), "float32")])
    for start in (10, 30):
        built.op("aten::_cdist_forward", start, 15, inputs=POINTS)
        if children:
            built.op("aten::mm", start + 1, 5, inputs=[((4, 4), "float32"), ((4, 4), "float32")])
    built.write(path)
    return path


def signatures(path, extras):
    append_key(path, encode_extras(extras))
    return {op.name: op for op in read_trace(path).trace.signatures}


@pytest.mark.usefixtures("unpriced")
def test_an_answer_serves_every_call_with_these_arguments(tmp_path):
    path = recording(tmp_path / "trace.json")
    extras = with_outputs(Extras(has_shapes=True), path)
    assert extras.output_lists == ((ListTensor((8, 5), "float32", (5, 1)),),)
    assert list(extras.outputs.values()) == [0, 0]
    found = signatures(path, extras)
    (phase,) = price(found["aten::_cdist_forward"]).phases
    assert phase.work == Work(None, 4 * (24 + 15), 4 * 40, source="meta")
    assert found["aten::mm"].outputs is None


@pytest.mark.usefixtures("unpriced")
def test_an_op_whose_work_is_done_by_others_below_it_is_not_asked_about(tmp_path):
    path = recording(tmp_path / "trace.json", children=True)
    assert with_outputs(Extras(has_shapes=True), path).outputs == {}


@pytest.mark.usefixtures("unpriced")
def test_the_lists_that_were_kept_are_arguments_too(tmp_path):
    built = TraceBuilder(device=None)
    external = built.op("aten::cat", 0, 5, inputs=[[((2,), "float32"), ((3,), "float32")], 0])
    built.write(tmp_path / "trace.json")
    kept = (ListTensor((2,), "float32"), ListTensor((3,), "float32"))
    extras = Extras(has_shapes=True, tensor_lists=(kept,), list_arguments={external: {0: 0}})
    found = with_outputs(extras, tmp_path / "trace.json")
    assert found.output_lists == ((ListTensor((5,), "float32", (1,)),),)


def test_where_every_op_has_a_formula_nothing_is_asked_or_read(tmp_path):
    built = TraceBuilder(device=None)
    built.op("aten::mm", 0, 5, inputs=[((4, 4), "float32"), ((4, 4), "float32")])
    built.write(tmp_path / "trace.json")
    extras = Extras(has_shapes=True)
    assert with_outputs(extras, tmp_path / "trace.json") is extras


@pytest.mark.usefixtures("unpriced")
@pytest.mark.parametrize(
    "hostile",
    [
        {"outputs": {"2": 99}},
        {"outputs": {"2": 0}, "output_lists": [[[[1 << 70], "float32", None]]]},
        {"outputs": "os.system", "output_lists": 7},
        {"outputs": {"2": 0}, "output_lists": [[[[4], "no dtype", None]]]},
        {"outputs": {"2": 0}, "output_lists": [[[[4], "float32", [1, 2, 3]]]]},
    ],
)
def test_hostile_answers_cost_themselves(tmp_path, hostile):
    path = recording(tmp_path / "trace.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "diagnose": hostile}))
    found = {op.name: op for op in read_trace(path).trace.signatures}
    priced = price(found["aten::_cdist_forward"])
    assert priced.phases is None or priced.phases[0].work.bytes_written == 16
    assert found["aten::mm"].inputs == (TensorMeta((4, 4), "float32", (4, 1)),) * 2
