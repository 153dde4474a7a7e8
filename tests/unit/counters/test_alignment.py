"""Sequences of kernels side by side: names in every spelling, gaps on both sides, several steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnose.counters.alignment import align, base_name, period

KINETO = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, "
    "std::array<char*, 3ul> >(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)"
)
NSIGHT = (
    "void at::native::vectorized_elementwise_kernel<(int)4, at::native::CUDAFunctor_add<float>, "
    "std::array<char *, (unsigned long)3>>(int, T2, T3)"
)
MANGLED = (
    "_ZN2at6native29vectorized_elementwise_kernelILi4ENS0_15CUDAFunctor_addIfEESt5arrayIPcLm3EEEEviT0_T1_"
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "base"),
    [
        (KINETO, "vectorized_elementwise_kernel"),
        (NSIGHT, "vectorized_elementwise_kernel"),
        (MANGLED, "vectorized_elementwise_kernel"),
        ("vectorized_elementwise_kernel", "vectorized_elementwise_kernel"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_TNT", "nvjet_tst_128x256_64x4_2x1_v_bz_TNT"),
        ("void (anonymous namespace)::softmax_warp_forward<float, 8>(float*, int)", "softmax_warp_forward"),
        ("_ZN47_GLOBAL__N__abcdef12_4_Name_cu_12345678_1234520softmax_warp_forwardIfLi8EEEvPfi", None),
        ("void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm>(T1::Params)", "Kernel2"),
        ("_ZN7cutlass7Kernel2I27cutlass_80_tensorop_s1688gemmEEvNT_6ParamsE", "Kernel2"),
        ("_Z10my_kernel1Pfi", "my_kernel1"),
        ("my_kernel1(float *, int)", "my_kernel1"),
        ("void f<a::{lambda(int)#1}>(int)", "f"),
        ("std::enable_if<!(false), void>::type gemv2T<int, 128>(gemvParams)", "gemv2T"),
        ("", ""),
        ("<", "<"),
        ("_Z", "_Z"),
        ("_ZN99999x", "_ZN99999x"),
    ],
)
def test_a_kernel_has_one_name_in_every_spelling(name: str, base: str | None) -> None:
    if base is not None:
        assert base_name(name) == base
    assert isinstance(base_name(name), str)


def aligned(ours: str, theirs: str) -> str:
    codes = [np.array([ord(letter) for letter in each.lower()], np.int64) for each in (ours, theirs)]
    wide = [np.array([ord(letter) for letter in each], np.int64) for each in (ours, theirs)]
    found = align((wide[0], wide[1]), (codes[0], codes[1])).tolist()
    return "".join("-" if place < 0 else theirs[place] for place in found)


@pytest.mark.parametrize(
    ("ours", "theirs", "joined"),
    [
        ("abcabc", "abcabc", "abcabc"),
        ("abcd", "abd", "ab-d"),
        ("abd", "abcd", "abd"),
        ("", "abc", ""),
        ("abc", "", "---"),
        ("xabc", "abcy", "-abc"),
        # Upper case is another grid: joined by name where both sides have one left at that place.
        ("abcabc", "aBcabc", "aBcabc"),
        ("abcbd", "aBcd", "aBc-d"),
        ("aaaa", "aa", None),
    ],
)
def test_gaps_on_both_sides(ours: str, theirs: str, joined: str | None) -> None:
    found = aligned(ours, theirs)
    assert len(found) == len(ours)
    if joined is not None:
        assert found == joined
    else:
        assert found.count("-") == 2


@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 3), max_size=30))
@settings(max_examples=60, deadline=None)
def test_only_equal_kernels_are_joined_in_order_and_once(ours: list[int], theirs: list[int]) -> None:
    a, b = np.array(ours, np.int64), np.array(theirs, np.int64)
    found = align((a, b), (a, b))
    joined = found[found >= 0]
    assert all(ours[i] == theirs[j] for i, j in enumerate(found.tolist()) if j >= 0)
    assert len(set(joined.tolist())) == len(joined)
    assert (np.diff(joined) > 0).all()


@given(st.lists(st.integers(0, 5), min_size=4, max_size=40), st.data())
@settings(max_examples=40, deadline=None)
def test_one_missing_kernel_costs_one_kernel(codes: list[int], data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, len(codes) - 1))
    ours, theirs = np.array(codes, np.int64), np.array(codes[:lost] + codes[lost + 1 :], np.int64)
    assert (align((ours, theirs), (ours, theirs)) >= 0).sum() == len(codes) - 1


@pytest.mark.parametrize(
    ("codes", "at_most", "length"),
    [("abcabcabc", 3, 3), ("abcabcab", 3, 8), ("abab", 4, 4), ("abababab", 5, 4), ("abcd", 4, 4), ("", 0, 0)],
)
def test_steps_are_found_as_periods(codes: str, at_most: int, length: int) -> None:
    assert period(np.array([ord(letter) for letter in codes], np.int64), at_most) == length


@pytest.mark.parametrize("most_pairs", [1 << 30, 0])
def test_a_long_step_with_gaps_is_aligned(most_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel by kernel, and by how often each occurs where there would be too many pairs."""
    monkeypatch.setattr("diagnose.counters.alignment._MOST_PAIRS", most_pairs)
    layer = np.arange(40)
    ours = np.tile(layer, 100)
    theirs = np.delete(ours, np.arange(3, 4000, 40 if not most_pairs else 7))
    found = align((ours, theirs), (ours, theirs))
    assert (found >= 0).sum() == len(theirs)
    assert all(ours[i] == theirs[j] for i, j in enumerate(found.tolist()) if j >= 0)


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_longer_alignment_exists(ours: list[int], theirs: list[int]) -> None:
    table = [[0] * (len(theirs) + 1) for _ in range(len(ours) + 1)]
    for i, a in enumerate(ours, 1):
        for j, b in enumerate(theirs, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    a, b = np.array(ours, np.int64), np.array(theirs, np.int64)
    assert (align((a, b), (a, b)) >= 0).sum() == table[-1][-1]
