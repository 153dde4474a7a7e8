"""Triton launches against a loop that touches what such a kernel touches, and against nonsense."""

from itertools import product
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose import costs
from diagnose.costs.registry import price
from diagnose.costs.triton_names import PARTS, read_triton_name
from diagnose.work import ITEMSIZE, UNKNOWN, Op, TensorMeta

costs.load()

QUICK = settings(max_examples=50, deadline=None)
SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def work(name, *inputs, tiles="XBLOCK=64"):
    (phase,) = price(Op(name, inputs, attributes=(("backend", "triton"), ("tiles", tiles)))).phases
    return phase.work


def touched(shape, small):
    """Distinct elements of an operand of shape ``small``, broadcast to ``shape``, that a loop over ``shape`` reads."""
    return {
        tuple(0 if size == 1 else i for i, size in zip(index[len(index) - len(small) :], small, strict=True))
        for index in product(*map(range, shape))
    }


@QUICK
@given(shape=SIZES, data=st.data())
def test_a_pointwise_kernel_touches_what_a_loop_touches(shape, data):
    operands = []
    for _ in range(data.draw(st.integers(1, 3))):
        kept = shape[data.draw(st.integers(0, len(shape) - 1)) :]
        small = [size if data.draw(st.booleans()) else 1 for size in kept]
        operands.append(TensorMeta(tuple(small), data.draw(st.sampled_from(["bfloat16", "float32", "int64"]))))
    out = TensorMeta(tuple(shape), "float32")
    # A clone among the ops takes no operand, so that one output is the only reading.
    found = work("triton_poi_fused_clone_0", *operands, out, prod(shape))
    assert found.bytes_read == sum(len(touched(shape, t.shape)) * ITEMSIZE[t.dtype] for t in operands)
    assert found.bytes_written == 4 * prod(shape)
    assert not found.is_bound


@QUICK
@given(table=st.tuples(st.integers(1, 9), st.integers(1, 5)), ids=st.lists(st.integers(0, 8), min_size=1, max_size=9))
def test_a_look_up_reads_at_least_the_rows_it_names_and_at_most_the_table(table, ids):
    rows, width = table
    ids = [i % rows for i in ids]
    found = work(
        "triton_poi_fused_embedding_0", TensorMeta((len(ids),), "int64"), TensorMeta(table, "float32"),
        TensorMeta((len(ids), width), "float32"), len(ids) * width,
    )  # fmt: skip
    read = found.bytes_read - 8 * len(ids)
    assert 4 * width * len(set(ids)) <= read <= 4 * rows * width
    assert found.bytes_written == 4 * width * len(ids)


@QUICK
@given(rows=st.integers(1, 40), depth=st.integers(2, 40), tiles=st.sampled_from(["XBLOCK=8,R0_BLOCK=4", "XBLOCK=8"]))
def test_a_row_sum_adds_every_element_and_writes_one_a_row(rows, depth, tiles):
    kind = "red" if "R0" in tiles else "per"
    x, out = TensorMeta((rows, depth), "float32"), TensorMeta((rows,), "float32")
    found = work(f"triton_{kind}_fused_sum_0", x, out, rows, depth, tiles=tiles)
    assert (found.bytes_read, found.bytes_written) == (4 * rows * depth, 4 * rows)
    assert dict(found.flops) == {"vector.float32": rows * depth}


@QUICK
@given(m=st.integers(1, 60), n=st.integers(1, 60), k=st.integers(1, 60), transposed=st.booleans())
def test_a_product_is_found_in_the_sizes_of_its_buffers(m, n, k, transposed):
    a, out = TensorMeta((m, k), "bfloat16"), TensorMeta((m, n), "bfloat16")
    b = TensorMeta((n, k) if transposed else (k, n), "bfloat16")
    found = work("triton_tem_fused_mm_0", a, b, out)
    assert dict(found.flops) == {"tensor.bfloat16": 2 * m * n * k}


@QUICK
@given(ops=st.sets(st.sampled_from(sorted(PARTS)), min_size=1, max_size=6))
def test_any_set_of_known_ops_is_a_known_name(ops):
    found = read_triton_name("triton_poi_fused_" + "_".join(sorted(ops)) + "_17").ops
    assert found is not None
    assert len(found) <= len(ops)
    assert "_".join(found) == "_".join(sorted(ops))


TENSORS = st.builds(
    TensorMeta,
    st.lists(st.integers(0, 1 << 40), max_size=4).map(tuple),
    st.sampled_from(["float32"] * 9 + ["bool", "nonsense", None, "complex64"]),
)
ARGUMENTS = st.lists(
    st.one_of(TENSORS, st.integers(-(1 << 70), 1 << 70), st.none(), st.text(max_size=5), st.just(UNKNOWN)), max_size=8
)
NAMES = st.one_of(
    st.text(max_size=30),
    st.builds(
        "triton_{}_fused_{}_{}".format,
        st.sampled_from(["poi", "red", "per", "tem", "for", "xyz"]),
        st.sampled_from(["add", "mm", "convolution", "add_mm", "bmm", "_softmax", "embedding", "", "?"]),
        st.integers(0, 99),
    ),
)


@settings(max_examples=200, deadline=None)
@given(name=NAMES, inputs=ARGUMENTS, tiles=st.sampled_from(["", "XBLOCK=1", "XBLOCK=1,R0_BLOCK=2", "=,=BLOCK"]),
       own=st.dictionaries(st.sampled_from(["bytes", "flops"]), st.floats(1, 1e18)))  # fmt: skip
def test_nonsense_is_a_price_or_a_reason_and_never_an_error(name, inputs, tiles, own):
    attributes = tuple(sorted({"backend": "triton", "tiles": tiles, **own}.items()))
    found = price(Op(name, tuple(inputs), attributes=attributes))
    if found.phases is None:
        assert found.reason
        return
    (phase,) = found.phases
    pointers = [value for value in inputs if isinstance(value, TensorMeta)]
    whole = sum(t.distinct_numel * t.itemsize for t in pointers)
    assert phase.work.bytes_read >= 0
    assert phase.work.bytes_written >= 0
    assert phase.work.bytes_accessed <= (round(own["bytes"]) if "bytes" in own else 2 * whole)
