"""Collectives described by the arguments of their ops, as real traces hold them."""

import pytest

from diagnose.costs.collective_ops import described
from diagnose.work import UNKNOWN, Op, TensorMeta


def t(*shape, dtype="bfloat16"):
    return TensorMeta(shape, dtype)


def says(name, *inputs, group_sizes=(), kind=None):
    found = described(Op(name, inputs), group_sizes, kind)
    if found is None:
        return None
    return found["collective"], found["dtype"], found["elements_in"], found["elements_out"], found.get("group_size")


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("symm_mem::multimem_all_reduce_", (t(2557440), None, None), ("all_reduce", 2557440, 2557440, 8)),
        ("symm_mem::two_shot_all_reduce_", (t(64), None, None), ("all_reduce", 64, 64, 8)),
        ("symm_mem::one_shot_all_reduce_copy", (t(128), t(64), None, None), ("all_reduce", 64, 64, 8)),
        ("symm_mem::multimem_all_gather_out", (t(64), None, t(512)), ("all_gather", 64, 512, 8)),
        ("symm_mem::reduce_scatter_out", (t(512), None, False, t(64)), ("reduce_scatter", 512, 64, 8)),
        ("vllm::all_reduce", (t(888, 2880), None), ("all_reduce", 888 * 2880, 888 * 2880, 8)),
        ("vllm::all_gather", (t(1, 25136), -1, 8, None), ("all_gather", 25136, 201088, 8)),
        ("vllm::reduce_scatter", (t(16, 25136), 0, 4, None), ("reduce_scatter", 16 * 25136, 4 * 25136, 4)),
        ("_C_custom_ar::all_reduce", (7, t(64), t(64), 0, 0), ("all_reduce", 64, 64, 8)),
        ("sgl_kernel::mscclpp_allreduce", (7, t(64), t(64), 512, 21), ("all_reduce", 64, 64, 8)),
        ("c10d::_allgather_base_", (t(8, 25136), t(1, 25136), None, False, -1), ("all_gather", 25136, 201088, 8)),
        ("c10d::_reduce_scatter_base_", (t(64), t(256), None), ("reduce_scatter", 256, 64, 4)),
        ("c10d::alltoall_base_", (t(300), t(200), None, None, None), ("all_to_all", 200, 300, 8)),
        ("c10d::allreduce_", ((t(10), t(20)), None, None, None, -1), ("all_reduce", 30, 30, 8)),
        ("_c10d_functional::all_gather_into_tensor", (t(10), 4, None), ("all_gather", 10, 40, 4)),
        ("_c10d_functional::reduce_scatter_tensor", (t(40), None, 4, None), ("reduce_scatter", 40, 10, 4)),
    ],
)
def test_arguments_say_what_moves(name, inputs, expected):
    kind, read, written, ranks = expected
    assert says(name, *inputs, group_sizes=(1, 8)) == (kind, "bfloat16", read, written, ranks)


def test_the_ranks_are_known_only_where_one_group_is_larger_than_one():
    for group_sizes in ((), (1,), (1, 2, 8)):
        assert says("vllm::all_reduce", t(64), None, group_sizes=group_sizes)[-1] is None
    assert says("vllm::all_reduce", t(64), None, group_sizes=(1, 4))[-1] == 4


def test_a_gather_knows_its_ranks_from_its_sides_not_from_the_job():
    inputs = (t(1073741824, dtype="int8"), t(16777216, dtype="int8"), None)
    assert says("c10d::_allgather_base_", *inputs, group_sizes=(1, 128))[-1] == 64


def test_an_uneven_gather_leaves_its_ranks_open():
    assert says("c10d::_allgather_base_", t(100), t(33), None, group_sizes=())[-1] is None


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("c10d::allreduce_", (UNKNOWN, None, None, UNKNOWN)),
        ("c10d::allreduce_", ((t(8816192, dtype=None),), None, None)),
        ("c10d::_allgather_base_", (t(8),)),
        ("vllm::all_gather", (t(8), -1, UNKNOWN, None)),
        ("_c10d_functional::all_gather_into_tensor", (t(8),)),
        ("vllm::all_reduce", ()),
        ("aten::mm", (t(2, 2), t(2, 2))),
    ],
)
def test_half_a_description_is_none(name, inputs):
    assert says(name, *inputs) is None


def test_shapes_that_were_not_recorded_say_nothing():
    assert described(Op("vllm::all_reduce", None), (1, 8)) is None


def test_the_profilers_own_op_serves_only_where_input_and_output_are_alike():
    comm = ("record_param_comms", t(1000, dtype="uint8"), UNKNOWN, UNKNOWN)
    assert says(*comm) is None
    assert says(*comm, kind="all_to_all") is None
    assert says(*comm, kind="send_recv") is None
    assert says(*comm, kind="all_reduce", group_sizes=(2,)) == ("all_reduce", "uint8", 1000, 1000, 2)
