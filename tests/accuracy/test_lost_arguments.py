"""What Kineto leaves out and the op's own calls tell: recorded for real, compared with what torch returned."""

import pytest
import torch
from derivation import distinct_bytes, output_bytes
from dispatched import work_of
from torch.profiler import profile

from diagnose import costs
from diagnose.trace.chrome import parse_trace
from diagnose.trace.lost_arguments import with_lost_arguments

costs.load()

X = torch.rand(20, 6, 4)
ROWS, COLUMNS = torch.tensor([1, 2, 9, 2]), torch.tensor([[0], [5]])
MASK = X[..., 0] > 0.5


def recorded(function, tmp_path):
    """The op calls of a real recording, as (call before completion, call after it)."""
    with profile(record_shapes=True) as recorder:
        function()
    path = tmp_path / "trace.json"
    recorder.export_chrome_trace(str(path))
    trace = parse_trace(path.read_bytes(), "trace").trace
    told = with_lost_arguments(trace)
    assert [told.signatures[i] for i in range(len(trace.signatures))] == list(trace.signatures)
    return [(trace.signatures[a], told.signatures[b])
            for a, b in zip(trace.ops.signature, told.ops.signature, strict=True)]  # fmt: skip


def completed(name, function, tmp_path):
    calls = recorded(function, tmp_path)
    found = [after for before, after in calls if before.name == f"aten::{name}" and after != before]
    assert found, f"nothing was learnt of {name}"
    return found[-1]


READS = [
    ("rows", lambda: X[ROWS], [ROWS]),
    ("the second dimension", lambda: X[:, COLUMNS[:, 0]], [COLUMNS[:, 0]]),
    ("rows and columns broadcast", lambda: X[ROWS, COLUMNS], [ROWS, COLUMNS]),
    ("around a whole dimension", lambda: X[ROWS, :, torch.tensor([3, 0, 1, 1])], [ROWS, ROWS]),
    ("a mask", lambda: X[MASK], None),
]


@pytest.mark.parametrize(("function", "indices"), [row[1:] for row in READS], ids=[row[0] for row in READS])
def test_indexing_is_known_by_the_views_it_makes(function, indices, tmp_path):
    result = function()
    work = work_of(completed("index", function, tmp_path))
    found = int(MASK.sum())
    named = sum(map(distinct_bytes, indices)) if indices else 2 * found * 8  # a mask is turned into two lists of places
    assert not work.is_bound
    assert work.bytes_written == output_bytes(result)
    assert work.bytes_read == min(output_bytes(result), distinct_bytes(X)) + named


def test_writing_by_index_is_known_too(tmp_path):
    values = torch.rand(4, 6, 4)

    def write():
        X.clone()[ROWS] = values

    work = work_of(completed("_index_put_impl_", write, tmp_path))
    assert not work.is_bound
    assert (work.bytes_read, work.bytes_written) == (distinct_bytes(values) + distinct_bytes(ROWS), 4 * 6 * 4 * 4)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("nonzero", MASK.nonzero),
        ("masked_select", lambda: X.masked_select(MASK[..., None])),
        ("repeat_interleave", lambda: torch.repeat_interleave(torch.tensor([3, 0, 2]))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_size_that_the_data_decides_is_that_of_the_allocation(name, function, tmp_path):
    work = work_of(completed(name, function, tmp_path))
    assert not work.is_bound
    assert work.bytes_written == output_bytes(function())


def test_tensors_that_are_flattened_into_one_are_known_however_many(tmp_path):
    tensors = [torch.rand(3, n, dtype=torch.bfloat16) for n in range(1, 41)]
    result = torch._utils._flatten_dense_tensors(tensors)
    work = work_of(completed("cat", lambda: torch._utils._flatten_dense_tensors(tensors), tmp_path))
    assert (work.bytes_read, work.bytes_written) == (sum(map(distinct_bytes, tensors)), output_bytes(result))


def test_a_long_list_that_is_merely_joined_stays_unknown(tmp_path):
    tensors = [torch.rand(3) for _ in range(40)]
    calls = recorded(lambda: torch.cat(tensors), tmp_path)
    assert all(before == after for before, after in calls)
    with pytest.raises(AssertionError, match="was not recorded"):
        work_of(next(after for _, after in calls if after.name == "aten::cat"))
