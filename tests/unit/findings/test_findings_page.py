"""docs/findings.md names every rule, with what its code says of it. DIAGNOSE_UPDATE_GOLDEN=1 writes the table anew."""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import get_args

import pytest

from diagnose.findings.communication import late_rank
from diagnose.findings.rules import RULES
from diagnose.schema import Bound
from tests.conftest import REPO

PAGE = REPO / "docs" / "findings.md"
BEGIN, END = "<!-- rules: begin -->", "<!-- rules: end -->"
HEADINGS = ["| finding | limit | what it looks for | what it assumes |", "|---|---|---|---|"]
EVERY = [*RULES, late_rank]


def table() -> list[str]:
    rows = [row for rule in EVERY for row in rows_of(rule)]
    return [*HEADINGS, *sorted(dict.fromkeys(rows), key=lambda row: (row.split(" | ")[1], row))]


def rows_of(rule: Callable[..., object]) -> list[str]:
    looks = " ".join((inspect.getdoc(rule) or "").split("\n\n")[0].split())
    rows = []
    for call in proposals(rule):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        name = " ".join(texts(given["rule"]))
        bounds = " or ".join(dict.fromkeys(word for word in texts(given["bound"]) if word in get_args(Bound)))
        assumes = said(given["assumes"]).strip("…").lstrip("; ")
        rows.append(f"| `{name}` | {bounds} | {looks} | {assumes} |")
    return rows


def proposals(rule: Callable[..., object]) -> Iterator[ast.Call]:
    """``Proposal(...)`` in a rule, or in functions of its module that it calls."""
    tree = ast.parse(inspect.getsource(sys.modules[rule.__module__]))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    open_, seen = [rule.__name__], set()
    while open_:
        name = open_.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if isinstance(node, ast.Name):
                open_.append(node.id)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Proposal":
                yield node


def texts(node: ast.expr) -> list[str]:
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def said(node: ast.expr) -> str:
    """A text as far as it stands in the code: what is filled in is ``…``; alternatives stand side by side."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(said(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        return said(node.left) + said(node.right)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (said(node.body), said(node.orelse))))
    return "…"


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.__name__)
def test_every_rule_has_a_row(rule):
    rows = rows_of(rule)
    assert rows, "no Proposal in its module is reached from it"
    page = PAGE.read_text()
    assert all(row in page for row in rows)


def test_the_table_is_what_the_rules_say():
    before, _, rest = PAGE.read_text().partition(BEGIN)
    committed, _, after = rest.partition(END)
    made = "\n\n" + "\n".join(table()) + "\n\n"
    if os.environ.get("DIAGNOSE_UPDATE_GOLDEN"):
        PAGE.write_text(f"{before}{BEGIN}{made}{END}{after}")
    else:
        assert committed == made
