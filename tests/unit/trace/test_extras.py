from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from diagnose.schema import Ceiling
from diagnose.trace.extras import CpuFacts, Extras, GcRun, ListTensor, decode_extras, encode_extras
from diagnose.work import TensorMeta

SOUND = Ceiling("cpu", "dram", 1e10, None, 9e9, 1.1e10, "measured", "copy")


def test_what_was_written_is_read_back() -> None:
    extras = Extras(
        tensor_lists=((ListTensor((2, 3), "float32", (3, 1)),), ()),
        list_arguments={7: {0: 0, 4: 1}},
        cpu=CpuFacts("AMD", 2, 2, 1 << 20, None),
        ceilings=(SOUND,),
        plain_step_ns=(3, 1, 2),
        gc_runs=(GcRun(5, 6, 2, 77),),
    )
    assert decode_extras(encode_extras(extras)) == (extras, None)


def test_lists_are_found_by_the_ops_id() -> None:
    extras = Extras(tensor_lists=((ListTensor((2,), "bfloat16", (1,)),),), list_arguments={7: {3: 0, 4: 99}})
    assert extras.lists_of(7) == {3: (TensorMeta((2,), "bfloat16", (1,)),)}
    assert extras.lists_of(8) == {}


def test_strides_that_do_not_fit_the_shape_are_unknown() -> None:
    assert ListTensor((2, 3), "float32", (1,)).meta() == TensorMeta((2, 3), "float32", None)


def test_step_times_are_medians_and_unknown_without_any() -> None:
    assert Extras(plain_step_ns=(9, 1, 2)).step_plain_ns == 2
    assert Extras().step_plain_ns is None
    assert Extras().step_recorded_ns is None


def test_a_bad_field_costs_that_field_and_a_note() -> None:
    raw = json.dumps({"cpu": {"threads": -1}, "torch_version": "2.13.0", "of the future": [1]}).encode()
    extras, note = decode_extras(raw)
    assert extras == Extras(torch_version="2.13.0")
    assert note == "unreadable in the key `diagnose` and left out: cpu"


def test_a_ceiling_that_is_no_positive_number_is_left_out() -> None:
    rows = json.loads(encode_extras(Extras(ceilings=(SOUND, SOUND))))["ceilings"]
    rows[1]["achievable"] = 0
    extras, note = decode_extras(json.dumps({"ceilings": rows}).encode())
    assert extras is not None
    assert extras.ceilings == (SOUND,)
    assert note is not None
    assert "no positive number" in note


def test_nesting_without_end_is_refused() -> None:
    extras, note = decode_extras(b'{"notes":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert extras is None
    assert note is not None


FIELDS = [*Extras.__struct_fields__, "0", "threads"]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)


@given(
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_stranger_can_write_anything(value: object) -> None:
    extras, note = decode_extras(json.dumps(value).encode())
    assert (extras is not None) == isinstance(value, dict)
    assert extras is not None or note is not None
