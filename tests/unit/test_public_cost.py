"""The user's own formulas: they are used, they win where they are told to, and they never break the analysis."""

import subprocess
import sys

import pytest

import diagnose
from diagnose.analysis import analyse
from diagnose.costs import registry
from diagnose.errors import UsageError
from tests.builders import TraceBuilder, launched


@pytest.fixture(autouse=True)
def _forgets(monkeypatch):
    """What a test registers is gone after it."""
    from diagnose import costs

    costs.load()
    for table in ("_FORMULAS", "_CHILDREN", "_FREE", "_MISSING"):
        monkeypatch.setattr(registry, table, getattr(registry, table).copy())


def one_kernel(op="mylib::scale", inputs=(((1024, 1024), "float32"), 2.0)):
    trace = TraceBuilder()
    launched(trace, op, list(inputs), 100, 50)
    return analyse(trace.reading())


def row_of(document):
    (row,) = document.kernels
    return row


def scale_cost(op):
    x = op.tensor(0)
    return diagnose.Work((("vector.float32", x.numel),), x.distinct_numel * x.itemsize, 4 * x.numel)


def test_a_users_formula_prices_the_users_op():
    diagnose.cost("mylib::scale")(scale_cost)
    row = row_of(one_kernel())
    assert (row.flops, row.bytes_read, row.bytes_written) == (2**20, 2**22, 2**22)
    assert (row.cost_source, row.bound) == ("formula", "memory")


def test_without_a_formula_the_op_is_bounded_by_its_inputs_and_says_so():
    document = one_kernel()
    row = row_of(document)
    assert (row.flops, row.bytes_read, row.cost_source, row.bound, row.gap_ns) == (None, 2**22, "inputs", None, None)
    assert "bounded" in row.flags
    assert row.reasons == ["no formula for this op: a lower bound, its recorded tensors once each"]
    coverage = document.coverage
    assert (coverage.costed_ns, coverage.bounded_ns) == (0, coverage.kernel_ns)


def test_a_lower_bound_that_the_time_disproves_counts_for_nothing():
    cache = ((200000, 16, 8, 64), "bfloat16")  # 3.3 GB, of which a kernel of 50 us touched some rows
    document = one_kernel("mylib::look_up", [((8, 64), "bfloat16"), cache])
    row = row_of(document)
    assert "bound-not-tight" in row.flags
    assert (document.coverage.costed_ns, document.coverage.bounded_ns) == (0, 0)
    assert document.coverage.uncosted[0].op == "mylib::look_up"
    assert document.totals.bytes is None


def test_the_decorator_gives_the_function_back():
    assert diagnose.cost("mylib::scale")(scale_cost) is scale_cost


def test_flops_may_be_a_mapping_and_whole_floats():
    @diagnose.cost("mylib::scale")
    def priced(_):
        return diagnose.Work({"vector.float32": 1e6, "special": 0}, 100.0, 0)

    row = row_of(one_kernel())
    assert (row.flops, row.bytes_read) == (10**6, 100)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (lambda op: op.tensor(0).shape["x"], "TypeError"),
        (lambda _: {}["missing"], "KeyError: 'missing'"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda _: None, "it has to return Work, not NoneType"),
        (lambda _: 12, "it has to return Work, not int"),
        (lambda _: (1, 2), "a tuple that it returns has to hold Phase"),
        (lambda _: diagnose.Work((), -1, 0), "bytes_read is -1"),
        (lambda _: diagnose.Work((), 0.5, 0), "bytes_read is 0.5"),
        (lambda _: diagnose.Work((), float("nan"), 0), "ValueError"),
        (lambda _: diagnose.Work(7, 0, 0), "TypeError"),
        (lambda op: op.tensor(9), "argument 9 was not recorded"),
    ],
)
def test_a_formula_that_fails_is_a_reason_and_not_a_crash(formula, said):
    diagnose.cost("mylib::scale")(formula)
    row = row_of(one_kernel())
    assert row.cost_source == "inputs"  # the bound that every recorded op has
    assert said in row.reasons[0]


def test_a_name_of_ours_is_not_taken_by_accident():
    with pytest.raises(UsageError, match=r"aten::mm has a formula already; to replace it: override=True"):
        diagnose.cost("aten::mm")(scale_cost)
    with pytest.raises(UsageError, match="aten::view"):
        diagnose.cost("aten::view")(scale_cost)


def test_override_wins_over_ours_also_for_what_we_call_free():
    diagnose.cost("aten::mul", "aten::view", override=True)(lambda _: diagnose.Work((), 5, 6))
    for op in ("aten::mul", "aten::view"):
        row = row_of(one_kernel(op))
        assert (row.bytes_read, row.bytes_written) == (5, 6)


def test_the_same_function_may_be_registered_again_and_another_may_not():
    def first(_):
        return diagnose.Work((), 1, 1)

    diagnose.cost("mylib::scale")(first)
    diagnose.cost("mylib::scale")(first)
    with pytest.raises(UsageError, match="mylib::scale has a formula already"):
        diagnose.cost("mylib::scale")(scale_cost)


@pytest.mark.parametrize("names", [(), ("",), (scale_cost,)])
def test_names_are_asked_for(names):
    with pytest.raises(UsageError, match=r'@diagnose.cost\("mylib::op"\)'):
        diagnose.cost(*names)


def test_the_names_are_public_and_take_no_torch():
    code = (
        "import sys, diagnose\n"
        "diagnose.cost('mylib::op')(lambda _: diagnose.Work((), 1, 1))\n"
        "print(diagnose.Op, diagnose.TensorMeta)\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"


def test_an_autograd_function_goes_by_its_class():
    diagnose.cost("MyFunction")(scale_cost)
    assert row_of(one_kernel("MyFunction")).flops == 2**20


def test_on_a_cpu_only_an_op_without_ops_below_it_is_bounded():
    trace = TraceBuilder(device=None)
    inputs = [((1024, 1024), "float32")]
    trace.op("mylib::outer", 0, 100, inputs=inputs)
    trace.op("mylib::inner", 10, 50, inputs=inputs)
    rows = {row.op: row for row in analyse(trace.reading()).kernels}
    assert rows["mylib::inner"].cost_source == "inputs"
    assert rows["mylib::outer"].cost_source is None
    assert rows["mylib::outer"].reasons == ["no formula for this op"]
