"""compare() of steps run on this machine: twice the same, and one made slower on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import diagnose

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    modules = {
        "net": torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.Linear(512, 256)).eval(),
        "norm": torch.nn.LayerNorm(256),
        "wide": torch.nn.Linear(256, 4096),
        "x": torch.randn(256, 256),
    }
    measured(lambda: modules["net"](modules["x"]))  # the first recording of a process starts things up
    return modules


def measured(step: Callable[[], object]) -> diagnose.Report:
    with torch.inference_mode():
        return diagnose.measure(step, repeat=10)


def test_the_same_thing_twice_does_not_differ_beyond_noise(net):
    # A machine that others use may be slower for a while: one quiet pair in four is enough.
    for _ in range(4):
        pair = [measured(lambda: net["net"](net["x"])) for _ in range(2)]
        verdict = diagnose.compare(*pair).verdict
        if verdict.startswith("no difference"):
            break
    assert verdict.startswith("no difference beyond noise")


def norms(net) -> object:
    y = net["net"](net["x"])
    for _ in range(60):
        y = net["norm"](y)
    return y


@pytest.mark.parametrize(
    ("slow_step", "cause"),
    [
        (norms, "mostly native_layer_norm +"),
        (lambda net: (net["net"](net["x"]), time.sleep(0.02)), "mostly idle: launching +"),
        (lambda net: (net["net"](net["x"]), net["wide"](net["x"])), "mostly addmm +"),
    ],
    ids=["layer norms", "sleep", "matmul"],
)
def test_the_cause_of_a_slower_step_comes_first(net, slow_step, cause):
    for _ in range(4):  # a burst of other work in one of the two can hide it
        before = measured(lambda: net["net"](net["x"]))
        found = diagnose.compare(before, measured(lambda: slow_step(net)), fail_on=["step_time:+5%"])
        if found.verdict.startswith("slower by") and cause in str(found.verdict):
            break
    assert found.verdict.startswith("slower by")
    assert cause in str(found.verdict)
    assert found.failed
    assert sum(change.difference_ns for change in found.changes) == (
        found.tables.step_after_ns - found.tables.step_before_ns
    )


def test_a_faster_step_names_what_it_no_longer_does(net):
    for _ in range(4):
        found = diagnose.compare(measured(lambda: norms(net)), measured(lambda: net["net"](net["x"])))
        if found.verdict.startswith("faster by") and "native_layer_norm -" in found.verdict:
            break
    assert found.verdict.startswith("faster by")
    assert "native_layer_norm -" in found.verdict
    assert "(new" not in found.verdict
