"""Where in the code each recorded op was called, from the profiler's tree of Python calls in this process.

A saved trace knows a function by the line of its ``def``; the tree also knows the line that made each call.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from diagnose.recording.module_paths import ModuleCall, paths_of
from diagnose.recording.operator_lines import operator_line
from diagnose.trace.extras import CodePlace
from diagnose.trace.python_names import (
    RUNTIME_FOLDERS,
    Owner,
    call_line,
    function_line,
    is_generated_module,
    owner_of,
    shown_path,
)

_PACKAGE: Final = str(Path(__file__).resolve().parents[1]) + os.sep
_REGION: Final = re.compile(r"Torch-Compiled Region")


class _Position(NamedTuple):
    """A line of a function; ``function`` None: the line made a call, else it is that of the ``def``."""

    file: str
    line: int
    function: str | None


class _Inside(NamedTuple):
    """What holds at a node of the tree.

    Attributes:
        module: Index of the innermost module call, -1 for none.
        line, caller: Of the calls around the running function, which made a call.
        here: The running function itself, where it is nobody's but the user's or a library's.
        compiled: The function whose compiled form is running: its recorded lines are the ``def``'s.
    """

    module: int = -1
    line: _Position | None = None
    caller: _Position | None = None
    here: _Position | None = None
    compiled: tuple[str, int] | None = None


class _Outer(NamedTuple):
    """The op around a node: its place, what held there, whether it is a compiled region whose code is called next."""

    place: int = -1
    inside: _Inside | None = None
    is_region: bool = False


@dataclass
class _Walk:
    modules: list[ModuleCall] = field(default_factory=list)
    module_ids: dict[tuple[int, int], int] = field(default_factory=dict)
    keys: dict[tuple[int, _Position | None, _Position | None], int] = field(default_factory=dict)
    op_places: dict[int, int] = field(default_factory=dict)


def places_of_tree(roots: Sequence[Any]) -> tuple[tuple[CodePlace, ...], Mapping[int, int]]:
    """The distinct places, and the index of each op's by External id; ops with the place of the op around are left out.

    Args:
        roots: ``kineto_results.experimental_event_tree()`` of a recording with stacks.
    """
    walk = _Walk()
    pending: list[tuple[Any, _Inside, _Outer]] = [(node, _Inside(), _Outer()) for node in reversed(roots)]
    while pending:
        node, inside, outer = pending.pop()
        fields = node.extra_fields
        if hasattr(fields, "caller"):
            inside = _called(walk, inside, node.name, fields, in_region=outer.is_region)
            outer = outer._replace(is_region=False)
        elif hasattr(fields, "sequence_number"):
            # What an op calls without Python between them has its place.
            place = outer.place if inside is outer.inside else _place(walk, inside, node.name)
            if place >= 0 and place != outer.place:
                walk.op_places[node.correlation_id] = place
            outer = _Outer(place if place >= 0 else outer.place, inside, _REGION.match(node.name) is not None)
        pending.extend((child, inside, outer) for child in reversed(node.children))
    paths = paths_of(walk.modules)
    places = tuple(
        CodePlace(paths[module] if module >= 0 else None, _written(line), _written(caller))
        for module, line, caller in walk.keys
    )
    return places, walk.op_places


def _called(walk: _Walk, inside: _Inside, name: str, fields: Any, *, in_region: bool) -> _Inside:
    """What holds inside a Python or built-in function that is called."""
    line, caller = inside.line, inside.caller
    origin = fields.caller
    owner = _owner(origin.file_name)
    if owner != "runtime" and (origin.file_name, origin.line_number) != inside.compiled:
        line = _Position(origin.file_name, origin.line_number, None)
        caller = line if owner == "user" else caller
    function = getattr(fields, "callsite", None)
    if function is None:
        return inside._replace(line=line, caller=caller, here=None)
    module, info = inside.module, fields.module
    if info is not None and not is_generated_module(name, is_inside=module >= 0):
        module = _module(walk, inside.module, int(info.self_ptr), name)
    key = (function.file_name, function.line_number)
    if in_region:
        return _Inside(module, line, caller, None, key)
    here = None if _owner(function.file_name) == "runtime" else _Position(*key, function.function_name)
    return _Inside(module, line, caller, here, None)


def _module(walk: _Walk, outer: int, address: int, name: str) -> int:
    index = walk.module_ids.setdefault((outer, address), len(walk.modules))
    if index == len(walk.modules):
        walk.modules.append(ModuleCall(outer, address, name.partition(": ")[2]))
    return index


def _place(walk: _Walk, inside: _Inside, op: str) -> int:
    line, caller = inside.line, inside.caller
    if inside.here is not None:
        line = _operator(inside.here, op)
        caller = line if _owner(line.file) == "user" else caller
    if inside.module < 0 and line is None:
        return -1
    return walk.keys.setdefault((inside.module, line, caller), len(walk.keys))


@cache
def _operator(here: _Position, op: str) -> _Position:
    """The position of the operator that made an op which nothing called, that of the function where it is not clear."""
    line = operator_line(_found(here.file), here.line, here.function or "", op)
    return here if line is None else _Position(here.file, line, None)


def _written(position: _Position | None) -> str | None:
    if position is None:
        return None
    path = shown_path(_found(position.file), str(Path.cwd()))
    if position.function is None:
        return call_line(path, position.line)
    return function_line(path, position.line, position.function)


@cache
def _owner(file: str) -> Owner:
    """Whose code it is: of this process the whole path is known, which a trace cuts off."""
    if file.partition("/")[0] in RUNTIME_FOLDERS:  # also where torch was built from source, beside the user's code
        return "runtime"
    path = _found(file)
    return "runtime" if path.startswith(_PACKAGE) else owner_of(path)


@cache
def _found(file: str) -> str:
    """The whole path of a file whose name has lost the folder that Python found it in."""
    if file.startswith("<") or Path(file).is_absolute():
        return file
    return next((str(path) for folder in sys.path if (path := Path(folder or ".").resolve() / file).is_file()), file)
