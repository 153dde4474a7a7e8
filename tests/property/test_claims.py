"""Claims together never exceed what there is: of each cell, and of the whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diagnose.replays.claims import Cell, Claim, grant

CELLS = st.builds(Cell, st.one_of(st.none(), st.integers(0, 2)), st.sampled_from(["idle_launch", "memory_above_roof"]))
NS = st.integers(-50, 1000)
CLAIMS = st.lists(st.builds(Claim, NS, st.lists(CELLS, max_size=4).map(tuple)), max_size=8)


@given(CLAIMS, st.dictionaries(CELLS, NS, max_size=6), NS)
def test_no_nanosecond_is_promised_twice(claims: list[Claim], holdings: dict[Cell, int], limit_ns: int) -> None:
    granted = grant(claims, holdings, limit_ns)
    assert sum(each.ns for each in granted) <= max(0, limit_ns)
    for cell in {cell for each in granted for cell in each.cells}:
        assert sum(each.cells.get(cell, 0) for each in granted) <= holdings[cell]
    for claim, each in zip(claims, granted, strict=True):
        assert each.ns == sum(each.cells.values())
        assert 0 <= each.ns <= max(0, claim.wanted_ns)
        assert set(each.cells) <= set(claim.cells)
        assert 0 <= each.share <= 1


@given(CLAIMS, st.dictionaries(CELLS, NS, max_size=6), NS)
def test_nothing_is_left_that_a_claim_still_wants(claims: list[Claim], holdings: dict[Cell, int], limit: int) -> None:
    granted = grant(claims, holdings, limit)
    left = {cell: max(0, ns) - sum(each.cells.get(cell, 0) for each in granted) for cell, ns in holdings.items()}
    if sum(each.ns for each in granted) < max(0, limit):
        for claim, each in zip(claims, granted, strict=True):
            is_met = each.ns >= claim.wanted_ns
            assert is_met or not any(left.get(cell, 0) for cell in claim.cells)


def test_the_larger_claim_is_served_first_whatever_the_order() -> None:
    launches, kernel = Cell(None, "idle_launch"), Cell(0, "compute_above_roof")
    holdings = {launches: 100, kernel: 30}
    small, large = Claim(80, (launches, kernel)), Claim(90, (launches,))

    assert [each.ns for each in grant([small, large], holdings, 1000)] == [40, 90]
    assert [each.ns for each in grant([large, small], holdings, 1000)] == [90, 40]


def test_a_cell_that_owns_nothing_gives_nothing() -> None:
    granted = grant([Claim(10, (Cell(3, "small_kernels"),))], {}, 100)

    assert (granted[0].ns, granted[0].share) == (0, 0.0)


def test_the_whole_limits_what_the_cells_would_give() -> None:
    cells = [Cell(row, "uncosted") for row in range(3)]
    granted = grant([Claim(50, (cell,)) for cell in cells], dict.fromkeys(cells, 50), 120)

    assert [each.ns for each in granted] == [50, 50, 20]
