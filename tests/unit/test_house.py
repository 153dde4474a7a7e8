"""The rules of the house that no linter sees: who may import what, who may print, how long a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
ROOM = {path: path.relative_to(REPO).as_posix() for path in sorted((REPO / "diagnose").rglob("*.py"))}
PROBES = {path: path.relative_to(REPO).as_posix() for path in sorted((REPO / "kernels").glob("*.py"))}
# rglob does not follow the link diagnose/kernels in every Python version: each file is looked at once, by its own path.
MODULES = {path: name for path, name in ROOM.items() if not name.startswith("diagnose/kernels/")} | PROBES

MEASURING = ("diagnose/calibrations/calibration.py", "diagnose/calibrations/calibration_gpu.py")
PROBES_MAY_USE = ("diagnose.kernels", "diagnose.work", "diagnose.units", "diagnose.errors")


def _imports(source: str) -> Iterator[tuple[str, str | None]]:
    """Each import as (module, name taken from it or None), those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def _calls(source: str, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(ast.parse(source))
    )


def _is_module(dotted: str) -> bool:
    path = REPO / dotted.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _breaches(name: str, source: str) -> list[str]:
    """What a module does that the house forbids."""
    found = []
    is_probe = name.startswith("kernels/")
    for module, taken in _imports(source):
        whole = f"{module}.{taken}" if taken else module
        if module.startswith("."):
            found.append(f"relative import of {whole}")
        if whole.startswith("diagnose.kernels") and not is_probe and name not in MEASURING:
            found.append(f"only calibration*.py measure with {whole}")
        if module == "kernels" or module.startswith("kernels."):
            found.append(f"{whole}: the probes are imported as diagnose.kernels")
        # __init__.py holds the public names; inside, a name comes from the module that defines it.
        if module == "diagnose" and (taken is None or not _is_module(whole)) and name != "diagnose/__init__.py":
            found.append(f"the root package's public name {taken}")
        if is_probe and whole.startswith("diagnose") and not whole.startswith(PROBES_MAY_USE):
            found.append(f"a probe kernel knows {whole}")
    may_print = name == "diagnose/cli.py" or name.startswith("diagnose/commands/") or is_probe
    if _calls(source, "print") and not may_print:
        found.append("print: only cli.py and commands/ print")
    if len(source.splitlines()) > 400:
        found.append("more than 400 lines: split it")
    return found


@pytest.mark.parametrize("path", MODULES, ids=MODULES.values())
def test_module_keeps_the_rules_of_the_house(path: Path) -> None:
    assert _breaches(MODULES[path], path.read_text()) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("diagnose/report.py", "from diagnose.kernels.gemm import run"),
        ("diagnose/report.py", "from diagnose.kernels import gemm"),
        ("diagnose/report.py", "def f():\n    import diagnose.kernels.gemm"),
        ("diagnose/calibrations/calibration.py", "import kernels.gemm"),
        ("diagnose/report.py", "from . import work"),
        ("diagnose/costs/matmul.py", "from ..work import Op"),
        ("diagnose/report.py", "from diagnose import profile"),
        ("diagnose/report.py", "import diagnose"),
        ("diagnose/report.py", "print('x')"),
        ("kernels/gemm.py", "from diagnose.costs import registry"),
        ("kernels/gemm.py", "from diagnose.costs.matmul import mm"),
        ("diagnose/report.py", "x = 1\n" * 401),
    ],
)
def test_breach_is_seen(name: str, source: str) -> None:
    assert len(_breaches(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("diagnose/calibrations/calibration.py", "from diagnose.kernels import gemm"),
        ("diagnose/report.py", "from diagnose import units"),
        ("diagnose/costs/matmul.py", "from diagnose.costs import registry"),
        ("diagnose/cli.py", "print('x')"),
        ("kernels/gemm.py", "from diagnose.work import Work\nprint('x')"),
    ],
)
def test_what_is_allowed_is_not_called_a_breach(name: str, source: str) -> None:
    assert _breaches(name, source) == []


def test_every_module_was_looked_at() -> None:
    assert {"diagnose/work.py", "diagnose/trace/tables.py"} <= set(MODULES.values())
    assert not any(name.startswith("diagnose/kernels/") for name in MODULES.values())


def test_every_room_is_declared_a_package() -> None:
    import configparser

    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    declared = set(config["options"]["packages"].split())
    rooms = {path.parent for path in MODULES if path not in PROBES} | {REPO / "diagnose" / "kernels"}

    assert declared == {room.relative_to(REPO).as_posix().replace("/", ".") for room in rooms}


@pytest.mark.parametrize("module", ["diagnose", "diagnose.analysis"])
def test_import_is_light(module: str) -> None:
    """Reading a trace must work, and be quick, without these; a process of its own shows what an import pulls in."""
    code = f"import sys, {module}; print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"

    shown = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True).stdout

    assert shown.strip() == "[]"
