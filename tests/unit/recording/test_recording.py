"""What the file loses and the key keeps, checked on the JSON itself."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import diagnose
from diagnose.trace.extras import MARK_PREFIX, Extras, decode_extras

LAYERS = 20


def saved(work: Callable[[], object], folder: Path, **options: Any) -> tuple[dict[str, Any], Extras]:
    """The recording of one block: the whole JSON, and our key decoded."""
    with diagnose.profile(**options) as p:
        work()
    assert p.error is None
    p.save(folder / "trace.json")
    content = json.loads((folder / "trace.json").read_text())
    extras, note = decode_extras(json.dumps(content["diagnose"]).encode())
    assert extras is not None
    assert note is None
    return content, extras


def ops(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [event["args"] for event in content["traceEvents"] if event.get("name") == name and "args" in event]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, dict[str, Any], Extras]:
    model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(LAYERS)])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x = torch.randn(2, 4)

    def step() -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    step()
    return model, *saved(step, tmp_path_factory.mktemp("training"))


def test_an_optimizers_lists_are_kept_whole(training: tuple[torch.nn.Module, dict[str, Any], Extras]) -> None:
    # GIVEN a fused optimizer over more parameters than Kineto writes down
    model, content, extras = training
    parameters = list(model.parameters())
    assert len(parameters) > 30
    (adamw,) = ops(content, "aten::_fused_adamw_")
    assert adamw["Input Dims"][0] == [], "Kineto wrote the list: this test has lost its point"
    # WHEN the key is asked for the op's lists
    lists = extras.lists_of(adamw["External id"])
    # THEN parameters, gradients and both moments are there with their dtypes, and the empty list is an empty one
    for argument in range(4):
        assert [meta.shape for meta in lists[argument]] == [tuple(parameter.shape) for parameter in parameters]
        assert {meta.dtype for meta in lists[argument]} == {"float32"}
        assert [meta.strides for meta in lists[argument]] == [parameter.stride() for parameter in parameters]
    assert lists[4] == ()
    assert [meta.shape for meta in lists[5]] == [()] * len(parameters)


def test_equal_lists_are_stored_once(training: tuple[torch.nn.Module, dict[str, Any], Extras]) -> None:
    _, _, extras = training
    assert len(set(extras.tensor_lists)) == len(extras.tensor_lists)


def test_every_list_in_the_file_is_in_the_key(tmp_path: Path) -> None:
    a, b = torch.zeros(3, 4, dtype=torch.bfloat16), torch.zeros(1, 4, dtype=torch.int64)

    def work() -> None:
        torch.cat([a, a])
        torch.stack([b, b, b])
        torch.einsum("ij,kj->ik", a, a)
        torch._foreach_add([a, a], 1.0)
        torch.nn.LSTM(4, 2)(torch.zeros(3, 4))

    content, extras = saved(work, tmp_path)
    checked = 0
    for event in content["traceEvents"]:
        kinds = event.get("args", {}).get("Input type", [])
        for argument, kind in enumerate(kinds):
            if kind == "TensorList":
                kept = extras.lists_of(event["args"]["External id"])[argument]
                assert [list(meta.shape) for meta in kept] == event["args"]["Input Dims"][argument]
                checked += 1
    assert checked >= 6
    (cat,) = [op for op in ops(content, "aten::cat") if op["Input Dims"][0] == [[3, 4], [3, 4]]]
    assert [meta.dtype for meta in extras.lists_of(cat["External id"])[0]] == ["bfloat16", "bfloat16"]


def test_the_mark_holds_every_op_of_the_block(training: tuple[torch.nn.Module, dict[str, Any], Extras]) -> None:
    _, content, _ = training
    (mark,) = [event for event in content["traceEvents"] if event.get("name", "").startswith(MARK_PREFIX)]
    found = [event for event in content["traceEvents"] if event.get("cat") == "cpu_op"]
    assert len(found) > 100
    for event in found:
        assert mark["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= mark["ts"] + mark["dur"] + 0.002


def test_garbage_collections_are_on_the_files_clock(tmp_path: Path) -> None:
    def work() -> None:
        torch.zeros(3) + 1
        gc.collect()
        torch.zeros(3) + 1

    content, extras = saved(work, tmp_path)
    adds = sorted(event["ts"] for event in content["traceEvents"] if event.get("name") == "aten::add")
    full = [run for run in extras.gc_runs if run.generation == 2]
    assert any(adds[0] * 1000 < run.start_ns < adds[-1] * 1000 for run in full)
    assert all(run.duration_ns > 0 for run in full)


def test_facts_of_the_machine_and_of_torch(training: tuple[torch.nn.Module, dict[str, Any], Extras]) -> None:
    _, _, extras = training
    assert extras.torch_version == torch.__version__
    assert extras.python_version == ".".join(map(str, sys.version_info[:3]))
    assert extras.has_shapes
    assert not extras.has_stacks
    assert extras.cpu is not None
    assert extras.cpu.threads == torch.get_num_threads()
    assert extras.arithmetic is not None
    assert extras.arithmetic.float32_matmul_precision == torch.get_float32_matmul_precision()
    if not torch.cuda.is_available():
        assert {"tensor.float32", "dram", "kernel_floor"} <= {row.resource for row in extras.ceilings}


def test_without_shapes_no_lists_are_claimed(tmp_path: Path) -> None:
    _, extras = saved(lambda: torch.cat([torch.zeros(2)] * 2), tmp_path, shapes=False)
    assert extras.has_shapes is False
    assert extras.list_arguments == {}


def test_the_collector_is_left_as_it_was() -> None:
    gc.disable()
    try:
        with diagnose.profile():
            torch.zeros(1)
        assert not gc.isenabled()
    finally:
        gc.enable()
    callbacks = defaultdict(int)
    with diagnose.profile():
        torch.zeros(1)
    assert gc.isenabled()
    for callback in gc.callbacks:
        callbacks[getattr(callback, "__qualname__", "")] += 1
    assert callbacks["GcClock._on_gc"] == 0


def test_newer_switches_of_torch_do_not_break_the_facts() -> None:
    script = (
        "import torch\n"
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'\n"
        "from diagnose.recording.gathering import _arithmetic\n"
        "print(_arithmetic().matmul_allow_tf32)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(diagnose.__file__).parent.parent,
    )
    assert done.stdout.split() == ["True"]
