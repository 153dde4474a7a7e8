"""Live, on the CPU: a slow DataLoader, an ``.item()`` in a loop, a garbage collection, a recompilation, each named."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import diagnose  # noqa: E402  # after the check that there is a torch to record with
from diagnose.schema import Document  # noqa: E402

SLEEP_S = 0.02
HERE = Path(__file__).name


class Slow(torch.utils.data.Dataset):  # type: ignore[name-defined,misc]
    """Items that take their time."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        time.sleep(SLEEP_S)
        return torch.full((8,), float(index))


class Knot:
    """A cycle that only the collector frees, and that takes a while to."""

    def __init__(self) -> None:
        self.me = self

    def __del__(self) -> None:
        time.sleep(SLEEP_S)


def idle_ns(document: Document, part: str) -> int:
    return sum(row.ns for row in document.idle if row.part == part)


def test_a_slow_dataloader_is_named() -> None:
    loader = torch.utils.data.DataLoader(Slow(), batch_size=2)
    weight = torch.ones(8, 8)
    with diagnose.profile() as p:
        for batch in loader:
            batch @ weight
    document = p.report.document
    assert idle_ns(document, "idle_data") > 0.8 * 4 * SLEEP_S * 1e9
    assert "data" in document.verdict.why
    assert "DataLoader" in document.verdict.next
    data = [row for row in document.phases if row.phase == "data" and row.step is None]
    assert sum(row.ns for row in data) >= idle_ns(document, "idle_data")


def test_an_item_in_a_loop_is_a_row_of_its_own() -> None:
    """On a CPU nothing waits; what can be seen is the op, how often it runs, and the Python before it."""
    values = torch.arange(50.0)
    total = 0.0
    with diagnose.profile() as p:
        for index in range(50):
            total += values[index].item()
    document = p.report.document
    rows = [row for row in document.kernels if row.op == "aten::_local_scalar_dense"]
    assert sum(row.calls for row in rows) == 50
    before = [row for row in document.idle if row.op == "aten::item"]
    assert sum(row.count for row in before) >= 45
    assert document.synchronizations == []
    assert document.verdict.bound == "overhead"


def test_the_line_is_told_where_stacks_were_recorded() -> None:
    values = torch.arange(5.0)
    with diagnose.profile(stacks=True) as p:
        for index in range(5):
            values[index].item()
    rows = [row for row in p.report.document.idle if row.op == "aten::item"]
    assert rows
    assert all(row.line is not None and HERE in row.line for row in rows)


def test_a_collected_step_is_named() -> None:
    weight = torch.ones(8, 8)
    with diagnose.profile() as p:
        weight @ weight
        Knot()
        gc.collect()
        weight @ weight
    document = p.report.document
    assert idle_ns(document, "idle_gc") >= 0.8 * SLEEP_S * 1e9
    assert "garbage collector" in document.verdict.why
    assert "gc.freeze" in document.verdict.next


def test_a_recompilation_is_named() -> None:
    @torch.compile(backend="eager")
    def double(x: object, factor: int) -> object:
        return x * factor

    x = torch.ones(8)
    torch._dynamo.config.automatic_dynamic_shapes = False
    try:
        double(x, 2)
        with diagnose.profile() as p:
            x + 1
            double(x, 3)  # another constant: a guard fails
            x + 1
    finally:
        torch._dynamo.reset()
        torch._dynamo.config.automatic_dynamic_shapes = True
    document = p.report.document
    assert idle_ns(document, "idle_compile") > 0.5 * document.window.wall_ns
    assert "compiling" in document.verdict.why


def test_phases_of_a_training_step_are_told_apart() -> None:
    model = torch.nn.Linear(64, 64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(32, 64)
    with diagnose.profile() as p:
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    document = p.report.document
    assert {row.phase for row in document.phases} >= {"forward", "backward", "optimizer"}
    assert sum(row.ns for row in document.phases if row.step is None) == document.window.wall_ns
