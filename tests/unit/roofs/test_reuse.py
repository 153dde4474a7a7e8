"""What the cache may hold of a kernel's inputs, from what ran just before it."""

import pytest

from diagnose.limits import LIMITS
from diagnose.roofs.question import Reuse
from diagnose.roofs.reuse import Access, reusable

MB = 10**6
ROOM = 26 * MB


def wrote(name: str, read: int, written: int) -> Access:
    return Access(name, read + written, written, (read,))


@pytest.mark.parametrize(
    ("inputs", "earlier", "expected"),
    [
        # the kernel before wrote exactly what is read
        ([8 * MB], [wrote("norm", 4 * MB, 8 * MB)], Reuse(8 * MB, "norm")),
        # a norm writes its mean and deviation too
        ([8 * MB], [wrote("norm", 4 * MB, 8 * MB + 4096)], Reuse(8 * MB, "norm")),
        # two before, with 12 MB in between
        ([8 * MB], [wrote("gelu", 4 * MB, 5 * MB), wrote("norm", 3 * MB, 8 * MB)], Reuse(8 * MB, "norm")),
        # both inputs, each from another kernel
        ([8 * MB, 2 * MB], [wrote("a", MB, 8 * MB), wrote("b", MB, 2 * MB)], Reuse(10 * MB, "a")),
        # two inputs of one size and one such output: only one of them
        ([8 * MB, 8 * MB], [wrote("a", 7 * MB, 8 * MB), wrote("b", 9 * MB, 9 * MB)], Reuse(8 * MB, "a")),
        # read, not written
        ([8 * MB], [wrote("a", 8 * MB, 1 * MB)], Reuse(8 * MB, "a", is_written=False)),
        # 30 MB passed since: gone, and known to be
        ([8 * MB], [wrote("a", 15 * MB, 15 * MB), wrote("b", 1 * MB, 8 * MB)], Reuse(0)),
        # 20 + 40 MB went by at once, of which the last 26 stay: 26 / 60 of the output
        ([40 * MB], [wrote("a", 20 * MB, 40 * MB)], Reuse(round(40 * MB * 26 / 60), "a")),
        # something else of about that size
        ([8 * MB], [wrote("a", 15 * MB, 15 * MB)], Reuse(0)),
        # nothing is known of the kernel before
        ([8 * MB], [Access("a", None, 0), wrote("b", 1, 8 * MB)], None),
        # nothing ran before, or too little to have emptied the cache
        ([8 * MB], [], None),
        ([8 * MB], [wrote("a", 2, 2)], None),
    ],
)
def test_reuse(inputs: list[int], earlier: list[Access], expected: Reuse | None):
    assert reusable(inputs, earlier, ROOM, LIMITS) == expected


def test_never_more_than_the_inputs():
    many = [wrote(str(index), MB, 8 * MB) for index in range(10)]
    assert reusable([8 * MB], many, ROOM, LIMITS).bytes == 8 * MB


def test_only_so_many_kernels_are_looked_at():
    tiny = [wrote("tiny", 4, 4)] * LIMITS.look_back
    assert reusable([8 * MB], [*tiny, wrote("norm", 1, 8 * MB)], ROOM, LIMITS) is None
