"""What Nsight Compute prints, read: two pages, units, languages of numbers, refusals, and files that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.counters.ncu import DRAM_RATE, DRAM_READ, DURATION, L2, MEMORY_THROUGHPUT, SM_THROUGHPUT, parse_counters
from diagnose.errors import UsageError
from tests.counter_sheets import Sheet


def sheet() -> Sheet:
    made = Sheet()
    made.kernel("void f<int, (bool)1>(T1 *, int)", read=1_234_567, written=8, ns=1500, l2=99, sm=12.5, memory=80.25)
    made.kernel('g"h', read=0, written=4096, ns=2_000_000, grid=(7, 2, 1), block=(128, 1, 1))
    return made


@pytest.mark.parametrize("page", ["raw", "details"])
def test_both_pages_say_the_same(page: str) -> None:
    found = parse_counters(getattr(sheet(), page)())
    assert found.names == ("void f<int, (bool)1>(T1 *, int)", 'g"h')
    assert found.metric(DRAM_READ).tolist() == [1_234_567, 0]
    assert found.metric(DURATION).tolist() == [1500, 2_000_000]
    assert found.metric(SM_THROUGHPUT)[0] == 12.5
    assert found.metric(MEMORY_THROUGHPUT)[0] == 80.25
    assert found.dram_bytes().tolist() == [1_234_575, 4096]
    assert found.grid.tolist() == [[264, 1, 1], [7, 2, 1]]
    assert found.block[1].tolist() == [128, 1, 1]
    assert set(found.process.tolist()) == {4242}


def test_what_was_not_counted_is_unknown_and_not_zero() -> None:
    found = parse_counters(sheet().raw())
    assert found.metric(L2)[0] == 99
    assert np.isnan(found.metric(L2)[1])
    assert np.isnan(found.metric("a metric that is not there")).all()


@pytest.mark.parametrize(
    ("metric", "unit", "printed", "value"),
    [
        (DRAM_READ, "byte", "1,234", 1234),
        (DRAM_READ, "Kbyte", "1.50", 1500),
        (DRAM_READ, "Mbyte", "2.25", 2.25e6),
        (DRAM_READ, "Gbyte", "1,024.5", 1024.5e9),
        (DURATION, "ns", "9", 9),
        (DURATION, "nsecond", "9", 9),
        (DURATION, "us", "3.5", 3500),
        (DURATION, "usecond", "1,205.00", 1_205_000),
        (DURATION, "ms", "2", 2e6),
        (DURATION, "second", "1", 1e9),
        (DRAM_RATE, "Gbyte/s", "2,000", 2e12),
        (DRAM_RATE, "Tbyte/second", "2", 2e12),
    ],
)
def test_units(metric: str, unit: str, printed: str, value: float) -> None:
    made = Sheet(units={metric: unit})
    made.kernel("k")
    made.launches[0].values[metric] = printed
    assert parse_counters(made.raw()).metric(metric).tolist() == [value]
    assert parse_counters(made.details()).metric(metric).tolist() == [value]


def test_a_decimal_comma_is_seen_in_the_file_as_a_whole() -> None:
    made = Sheet(units={DRAM_READ: "Kbyte", DURATION: "ns"})
    made.kernel("a", read="1.234,5", ns="9,25")
    made.kernel("b", read="1.234", ns="1.000")
    found = parse_counters(made.raw())
    assert found.metric(DRAM_READ).tolist() == [1_234_500, 1_234_000]
    assert found.metric(DURATION).tolist() == [9.25, 1000]


def test_labels_of_the_details_page_stand_for_metrics() -> None:
    made = Sheet(units={"Duration": "us", "Memory Throughput": "%", "Compute (SM) Throughput": "%"})
    made.kernel("k")
    made.launches[0].values.update({"Duration": "2", "Memory Throughput": "80.5", "Compute (SM) Throughput": "4"})
    rate = made.details().splitlines()[-1]
    assert "Compute" in rate
    text = made.details() + rate.replace("Compute (SM) Throughput", "Memory Throughput").replace(
        '"%","4"', '"Gbyte/s","1,500"'
    )
    found = parse_counters(text)
    assert found.metric(MEMORY_THROUGHPUT).tolist() == [80.5]
    assert found.metric(SM_THROUGHPUT).tolist() == [4]
    # 1500 GB/s for 2 us: the details page has no count of bytes, only their rate.
    assert found.dram_bytes().tolist() == [3_000_000]


def test_two_runs_in_one_file() -> None:
    found = parse_counters(sheet().raw() + sheet().details())
    assert len(found) == 4


def test_lines_of_the_program_between_rows_are_counted_in_a_note() -> None:
    lines = sheet().raw().splitlines()
    lines.insert(5, '"step 3, loss 0.2')
    found = parse_counters("\n".join(lines))
    assert len(found) == 2
    assert found.notes == ("counters: 1 lines are no row of the table",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no kernel"),
        ("hello\n", "holds no kernel"),
        ('"ID","Kernel Name","Metric Name","Metric Unit","Metric Value"\n', "holds no kernel"),
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", "was refused the counters"),
    ],
)
def test_a_file_without_counters_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_counters(text, "ncu.csv")
    assert str(raised.value).startswith("ncu.csv: ")
    assert "\n" not in str(raised.value)


@given(st.text(alphabet=st.sampled_from('"ID,\n= Kernel Name()<>:1.5\x00é'), max_size=200))
@settings(max_examples=60, deadline=None)
def test_anything_is_counters_or_one_line(tail: str) -> None:
    text = sheet().raw() + tail
    assert len(parse_counters(text)) >= 2
    try:
        parse_counters(tail)
    except UsageError:
        return


def test_a_name_of_a_megabyte_is_a_name() -> None:
    made = Sheet()
    made.kernel("k<" + "x" * 1_000_000 + ">", read=5, written=5)
    assert parse_counters(made.raw()).metric(DRAM_READ).tolist() == [5]
