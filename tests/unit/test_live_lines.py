"""Modules and source lines of a real training step, as a user sees them in the report."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import diagnose
from diagnose.schema import KernelRow

torch = pytest.importorskip("torch")

TEXT = Path(__file__).read_text().splitlines()
SOURCE = {line.split("# at: ")[1]: number for number, line in enumerate(TEXT, 1) if "# at: " in line}
"""The line of each mark in this file."""
FILE = Path(__file__).name


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(24, 40)
        self.down = torch.nn.Linear(40, 24)

    def forward(self, x: Any) -> Any:
        y = self.up(x)  # at: up
        y = y * 0.5  # at: scale
        y = torch.nn.functional.gelu(y)  # at: gelu
        y = self.down(y)  # at: down
        return x - y  # at: residual


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Block(), Block()])
        self.head = torch.nn.Sequential(torch.nn.Linear(24, 8), torch.nn.ReLU())

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)  # at: head


class Step:
    """A training step, whose optimizer has its states."""

    def __init__(self, net: Any, model: Any = None) -> None:
        torch.manual_seed(0)
        self.model = net if model is None else model
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        self.x = torch.randn(16, 24)
        self()

    def __call__(self) -> None:
        loss = self.model(self.x).square().mean()  # at: loss
        loss.backward()  # at: backward
        self.optimizer.step()  # at: optimizer
        self.optimizer.zero_grad()


def at(mark: str) -> int:
    return SOURCE[mark]


def lines_of(rows: list[KernelRow], name: str, *columns: int) -> dict[tuple[Any, ...], int]:
    """Calls of the op ``name`` by module, line, and whether the phase is the backward one."""
    found: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        if row.kernel == name and (not columns or (row.signature and [*columns] in row.signature.shapes)):
            for place in row.places:
                assert place.line is not None
                file, _, line = place.line.partition(":")
                assert file.endswith(FILE)
                assert not file.startswith("/")
                found[place.module, int(line), place.phase] += place.calls
    return dict(found)


def check(report: Any, steps: int) -> None:
    """Every matmul of the model, forward and backward, has its module and the line that called it."""
    rows = report.kernels
    linear = [("Net.layers.0.up", "up"), ("Net.layers.0.down", "down"), ("Net.layers.1.up", "up"),
              ("Net.layers.1.down", "down"), ("Net.head.0", "head")]  # fmt: skip
    assert lines_of(rows, "aten::addmm") == {(module, at(mark), "forward"): steps for module, mark in linear}
    backward = {(module, at(mark), "backward"): 2 * steps for module, mark in linear}
    backward["Net.layers.0.up", at("up"), "backward"] = steps  # the input has no gradient
    assert lines_of(rows, "aten::mm") == backward
    assert lines_of(rows, "aten::gelu") == {(f"Net.layers.{i}", at("gelu"), "forward"): steps for i in (0, 1)}
    assert lines_of(rows, "aten::gelu_backward") == {(f"Net.layers.{i}", at("gelu"), "backward"): steps for i in (0, 1)}
    assert lines_of(rows, "aten::relu") == {("Net.head.1", at("head"), "forward"): steps}
    assert set(lines_of(rows, "aten::mean")) == {(None, at("loss"), "forward")}
    optimizer = {(module, line) for (module, line, _) in lines_of(rows, "aten::add_")}
    assert (None, at("optimizer")) in optimizer


@pytest.fixture(scope="module")
def step() -> Step:
    return Step(Net())


@pytest.fixture(scope="module")
def cycle(step: Step) -> Any:
    with diagnose.profile(wait=1, warmup=1, active=2) as p:
        for _ in range(6):
            step()
            p.step()
    assert p.error is None
    return p


def test_a_step_more_gives_the_timed_steps_their_lines(cycle: Any) -> None:
    check(cycle.report, steps=2)
    assert [step.name for step in cycle.report.window.steps] == ["ProfilerStep#2", "ProfilerStep#3"]
    assert not cycle.report.document.source.options.stacks, "the timed steps were recorded without"


def test_an_operator_has_its_line_where_the_function_has_one_of_its_kind(cycle: Any) -> None:
    found = lines_of(cycle.report.kernels, "aten::sub")
    assert found == {(f"Net.layers.{i}", at("residual"), "forward"): 2 for i in (0, 1)}
    forward = {key: calls for key, calls in lines_of(cycle.report.kernels, "aten::mul").items() if key[2] == "forward"}
    assert forward == {(f"Net.layers.{i}", at("scale"), "forward"): 2 for i in (0, 1)}


def test_the_lines_are_in_the_saved_recording(cycle: Any, tmp_path: Path) -> None:
    cycle.save(tmp_path / "step.json.gz")
    assert diagnose.read(tmp_path / "step.json.gz") == cycle.report


def test_places_sum_to_their_rows(cycle: Any) -> None:
    for row in cycle.report.kernels:
        assert (sum(p.calls for p in row.places), sum(p.time_ns for p in row.places)) == (row.calls, row.time_ns)


def test_the_modules_are_a_table(cycle: Any) -> None:
    frame = cycle.report.to_frame("modules")
    own = frame.set_index("module")["own_time_ns"]
    assert own.sum() == sum(row.time_ns for row in cycle.report.kernels)
    assert {"Net", "Net.layers", "Net.layers.1.down", "Net.head.1"} <= set(own.index.dropna())
    assert "By module" in str(cycle.report)


def test_stacks_on_request_give_a_plain_block_its_lines(step: Step) -> None:
    with diagnose.profile(stacks=True) as p:
        step()
    check(p.report, steps=1)


def test_measure_runs_once_more_for_the_lines(step: Step) -> None:
    check(diagnose.measure(step, warmup=0, repeat=2), steps=2)


def test_lines_can_be_left_out(step: Step) -> None:
    report = diagnose.measure(step, warmup=0, repeat=1, lines=False)
    assert {place.line for row in report.kernels for place in row.places} == {None}


def test_a_loop_that_ends_before_has_its_report_without_lines(step: Step) -> None:
    with diagnose.profile(active=2) as p:
        for _ in range(2):
            step()
            p.step()
    assert p.error is None
    assert p.report is not None
    assert p.report.notes == diagnose.measure(step, warmup=0, repeat=1, lines=False).notes


def test_every_cycle_gets_its_lines_and_its_file(step: Step, tmp_path: Path) -> None:
    with diagnose.profile(wait=1, active=1, repeat=2, out=tmp_path) as p:
        for _ in range(4):
            step()
            p.step()
    assert len(p.reports) == 2
    for report in (*p.reports, *map(diagnose.read, sorted(tmp_path.iterdir()))):
        check(report, steps=1)


def test_what_the_loop_does_differently_later_has_no_line_and_is_said(step: Step) -> None:
    with diagnose.profile(active=1) as p:
        for index in range(2):
            step()
            if index == 0:
                torch.ones(3).cos_()
            p.step()
    check(p.report, steps=1)
    (cosine,) = [row for row in p.report.kernels if row.kernel == "aten::cos_"]
    assert [place.line for place in cosine.places] == [None]
    assert any("ran differently there" in note for note in p.report.notes)


def test_a_compiled_model_has_the_line_that_called_it() -> None:
    torch._dynamo.reset()
    net = Net()
    step = Step(net, torch.compile(net, backend="aot_eager"))
    with diagnose.profile(active=1) as p:
        for _ in range(3):
            step()
            p.step()
    torch._dynamo.reset()
    assert set(lines_of(p.report.kernels, "aten::addmm")) == {("Net", at("loss"), "forward")}
    assert set(lines_of(p.report.kernels, "aten::mm")) == {("Net", at("loss"), "backward")}


def test_the_code_that_inductor_writes_is_no_place() -> None:
    torch._dynamo.reset()
    model = torch.compile(torch.nn.Linear(8, 8))  # nothing to fuse: no kernel has to be compiled for it
    x = torch.randn(4, 8)
    with torch.no_grad():
        model(x)
        with diagnose.profile(stacks=True) as p:
            model(x)  # at: compiled
    torch._dynamo.reset()
    assert {(module, line) for module, line, _ in lines_of(p.report.kernels, "aten::addmm")} == {
        ("Linear", at("compiled"))
    }
