"""The attribute path of live modules: ``GPT2.transformer.h.3.mlp``.

A recording knows a module by its address alone. The module's own registration in its parents gives the true path,
also of one that was called directly; what is registered nowhere (kept in a plain list) hangs under its caller.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_COMPILED: Final = "OptimizedModule"
_WRAPPED: Final = "_orig_mod"
_WRAPPERS: Final = frozenset({
    _COMPILED, "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel", "CheckpointWrapper",
})  # fmt: skip
"""Classes around a module that are no part of its path."""


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One distinct call of a module.

    Attributes:
        outer: Index of the call around it, -1 at the top.
        address: Of the module.
        name: As the profiler has it: the class and a number, ``Linear_3``.
    """

    outer: int
    address: int
    name: str


def paths_of(calls: list[ModuleCall]) -> list[str]:
    """The path of each call's module.

    Args:
        calls: Outer ones before inner ones.
    """
    tree = _Registered(_live_modules() if calls else {})
    paths: list[str] = []
    tops: dict[int, str] = {}
    for call in calls:
        outer = paths[call.outer] if call.outer >= 0 else None
        under_outer = call.name if outer is None else f"{outer}.{call.name}"
        climbed = tree.climb(call.address, _class_of(call.name))
        if climbed is None:
            paths.append(under_outer)
            continue
        top, parts = climbed
        if top not in tops:
            is_loose = not parts and call.outer >= 0 and not tree.is_wrapper(calls[call.outer].address)
            tops[top] = under_outer if is_loose else tree.label(top)
        paths.append(".".join([tops[top], *parts]))
    return paths


def _class_of(name: str) -> str:
    return name.rpartition("_")[0]


def _live_modules() -> dict[int, Any]:
    """Every module of the process by its address."""
    import torch

    is_module: dict[type, bool] = {}
    found = {}
    for each in gc.get_objects():
        kind = type(each)
        if kind not in is_module:
            is_module[kind] = issubclass(kind, torch.nn.Module)
        if is_module[kind]:
            found[id(each)] = each
    return found


class _Registered:
    """Modules by where their parents hold them."""

    def __init__(self, modules: Mapping[int, Any]) -> None:
        self._modules = modules
        self._parents: dict[int, tuple[int, str]] = {}
        self._labels: dict[str, int] = {}
        for address, module in modules.items():
            for name, child in _children(module):
                self._parents.setdefault(id(child), (address, name))

    def climb(self, address: int, class_name: str) -> tuple[int, list[str]] | None:
        """The module that holds the one at ``address`` in the end, and the path from it; None if it is gone."""
        if type(self._modules.get(address)).__name__ != class_name:
            return None
        address = self._compiled(address)
        parts: list[str] = []
        seen = {address}
        while address in self._parents:
            parent, name = self._parents[address]
            is_outermost = self.is_wrapper(parent) and parent not in self._parents
            if parent in seen or is_outermost:
                break
            if not self.is_wrapper(parent):
                parts.append(name)
            seen.add(parent)
            address = parent
        return address, parts[::-1]

    def _compiled(self, address: int) -> int:
        """The module that torch.compile wrapped, whose code it runs; any other module is itself."""
        held = self._modules[address].__dict__.get("_modules") or {}
        is_compiled = type(self._modules[address]).__name__ == _COMPILED
        return id(held[_WRAPPED]) if is_compiled and held.get(_WRAPPED) is not None else address

    def is_wrapper(self, address: int) -> bool:
        """Whether the module only passes calls on."""
        return type(self._modules.get(address)).__name__ in _WRAPPERS

    def label(self, address: int) -> str:
        """The name of a module without parents: its class, numbered from the second of the class on."""
        own = type(self._modules[address]).__name__
        self._labels[own] = self._labels.get(own, 0) + 1
        return own if self._labels[own] == 1 else f"{own}#{self._labels[own]}"


def _children(module: Any) -> Iterable[tuple[str, Any]]:
    held = module.__dict__.get("_modules") or {}
    return [(str(name), child) for name, child in list(held.items()) if child is not None]
