"""Distinct values, as numpy has them, without what numpy imports for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from diagnose.distinct import all_but, distinct, is_any


@pytest.mark.parametrize("values", [[], [3], [2, 2, 2], [5, -1, 5, 0, -1], list(range(9, -1, -1))])
def test_each_value_once_in_order(values: list[int]) -> None:
    column = np.array(values, np.int64)
    assert distinct(column).tolist() == np.unique(column).tolist()


def test_masked_arrays_are_not_imported_for_it() -> None:
    imports = "import numpy, sys; from diagnose.distinct import distinct;"
    code = f"{imports} distinct(numpy.arange(3)); print('numpy.ma' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize("values", [[], [3], [5, -1, 5, 0, -1], list(range(30))])
@pytest.mark.parametrize("wanted", [[], [0], [5, 5, 7], list(range(-2, 20)), [10**18, -(10**18), *range(9)]])
def test_membership_and_difference_are_numpys(values: list[int], wanted: list[int]) -> None:
    column, others = np.array(values, np.int64), np.array(wanted, np.int64)
    assert is_any(column, wanted).tolist() == np.isin(column, others).tolist()
    assert all_but(column, others).tolist() == np.setdiff1d(column, others).tolist()
