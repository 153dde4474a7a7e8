"""The attribute path of live modules, from their addresses alone."""

from __future__ import annotations

from typing import Any

import pytest

from diagnose.recording.module_paths import ModuleCall, paths_of

torch = pytest.importorskip("torch")


class Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(2, 2)


class Tower(torch.nn.Module):
    """Holds one block properly and one in a plain list, where torch does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Block()])
        self.hidden = [Block()]


def call(module: Any, outer: int = -1, number: int = 0) -> ModuleCall:
    return ModuleCall(outer, id(module), f"{type(module).__name__}_{number}")


def test_a_path_follows_the_attributes_also_of_a_module_that_is_called_alone() -> None:
    tower = Tower()
    assert paths_of([call(tower.layers[0].up), call(tower), call(tower.layers[0], 1)]) == [
        "Tower.layers.0.up",
        "Tower",
        "Tower.layers.0",
    ]


def test_what_is_registered_nowhere_hangs_under_its_caller() -> None:
    tower = Tower()
    calls = [call(tower), call(tower.hidden[0], 0, 1), call(tower.hidden[0].up, 1)]
    assert paths_of(calls) == ["Tower", "Tower.Block_1", "Tower.Block_1.up"]


def test_two_models_of_a_class_are_told_apart() -> None:
    one, other = Block(), Block()
    assert paths_of([call(one.up), call(other.up)]) == ["Block.up", "Block#2.up"]


def test_wrappers_are_no_part_of_a_path() -> None:
    block = Block()
    compiled = torch.compile(block)
    parallel = torch.nn.DataParallel(Tower())
    calls = [
        call(compiled),
        call(block, 0),
        call(block.up, 1),
        call(parallel),
        call(parallel.module, 3),
        call(parallel.module.layers[0].up, 4),
    ]
    assert paths_of(calls) == ["Block", "Block", "Block.up", "DataParallel", "Tower", "Tower.layers.0.up"]


def test_a_module_that_is_gone_keeps_the_profilers_name() -> None:
    gone = ModuleCall(-1, 12345, "Linear_4")
    assert paths_of([gone, ModuleCall(0, 12346, "ReLU_0")]) == ["Linear_4", "Linear_4.ReLU_0"]


def test_an_address_that_another_object_took_over_is_not_believed() -> None:
    tower = Tower()
    assert paths_of([ModuleCall(-1, id(tower), "Linear_0")]) == ["Linear_0"]


def test_modules_that_hold_each_other_end() -> None:
    one, other = Block(), Block()
    one.add_module("other", other)
    other.add_module("one", one)
    assert all("Block" in path for path in paths_of([call(one), call(other, 0, 1)]))
