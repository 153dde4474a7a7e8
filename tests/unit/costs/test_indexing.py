"""Gathers and scatters as traces hold them."""

from diagnose.costs import indexing  # noqa: F401  (registers the formulas)
from diagnose.costs.registry import price, workers_of
from diagnose.work import Op, TensorMeta, Work


def work(name, *inputs):
    (phase,) = price(Op(name, inputs)).phases
    return phase.work


def indices(*shape):
    return TensorMeta(shape, "int64")


def test_an_embedding_is_not_charged_for_its_table():
    table = TensorMeta((30522, 512), "bfloat16")
    expected = Work((), 141 * 512 * 2 + 141 * 8, 141 * 512 * 2)
    assert work("aten::index_select", table, 0, indices(141)) == expected
    assert work("aten::embedding", table, indices(1, 141), -1, False, False) == expected
    assert "aten::index_select" in workers_of("aten::embedding")


def test_a_small_table_is_read_once_however_often_it_is_asked():
    table = TensorMeta((2, 512), "float32")
    assert work("aten::embedding", table, indices(1000), 0, False, False).bytes_read == 2 * 512 * 4 + 8000


def test_expanded_indices_are_read_once():
    x, rows = TensorMeta((25136, 2880), "bfloat16"), TensorMeta((888, 2880), "int64", (1, 0))
    found = work("aten::gather", x, 0, rows, False, TensorMeta((888, 2880), "bfloat16"))
    assert found == Work((), 888 * 2880 * 2 + 888 * 8, 888 * 2880 * 2)


def test_a_mask_makes_the_work_a_bound():
    x = TensorMeta((4, 8), "float32")
    for op in (
        Op("aten::index", (x, (TensorMeta((4, 8), "bool"),))),
        Op("aten::masked_select", (x, TensorMeta((4, 8), "bool"))),
        Op("aten::nonzero", (x,)),
    ):
        assert price(op).phases[0].work.is_bound
    assert not work("aten::index", x, (indices(3),)).is_bound


def test_indices_that_were_not_recorded_leave_the_op_unknown():
    x = TensorMeta((4, 8), "float32")
    for lost in (None, (), (TensorMeta((3,), None),)):
        assert price(Op("aten::index", (x, lost))).phases is None


def test_accumulating_reads_what_it_touches():
    target, values = TensorMeta((100, 8), "float32"), TensorMeta((3, 8), "float32")
    stored = work("aten::_index_put_impl_", target, (indices(3),), values, False, False)
    added = work("aten::_index_put_impl_", target, (indices(3),), values, True, False)
    assert stored == Work((), 96 + 24, 96)
    assert added == Work((("vector.float32", 24),), 96 + 24 + 96, 96)


def test_an_embeddings_gradient_touches_the_rows_looked_up():
    found = work(
        "aten::embedding_dense_backward", TensorMeta((2, 17, 64), "float32"), indices(2, 17), 50_000, -1, False
    )
    assert found.bytes_written == 34 * 64 * 4
