"""The documentation holds: what it marks to be run runs, commands parse, links lead somewhere, names exist."""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

import diagnose
from diagnose import cli
from diagnose.render.markdown import to_markdown
from diagnose.schema import BOUND_OF_PART, Document
from tests import report_documents

REPO = Path(__file__).resolve().parents[2]
DOCS = sorted((REPO / "docs").glob("*.md"))
PAGES = [*DOCS, REPO / "README.md", REPO / "CONTRIBUTING.md"]
NAMES = [page.name for page in PAGES]
SHELL = ("", "sh", "console", "yaml")
SEPARATORS = ("|", "&&", ";", ">", ">>", "2>")

FOREIGN_OPTIONS = {
    "--only", "--out",  # python -m benchmarks.gpu.PIECE
    "--cache-control", "--clock-control", "--csv", "--page", "--log-file", "--metrics",  # ncu
    "--compile", "--diagnose",  # a user's script; pytest
}  # fmt: skip
"""Options of other programs that the text names by themselves."""


class Block(NamedTuple):
    """A fenced block; ``mark`` is what the comment above it says."""

    mark: str | None
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.finditer(r"(?:^<!-- (.*?) -->\n)?^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(each[1], each[2], each[3]) for each in found]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each ``diagnose ...`` of some shell lines, also behind torchrun; what it prints is none."""
    for line in text.replace("\\\n", " ").splitlines():
        met = re.match(r"(?:\$ |- run: )?(?:diagnose|(?:torchrun|python) .*?-m diagnose) (.*)", line)
        if met is not None:
            words = shlex.split(met[1], comments=True)
            ends = [index for index, word in enumerate(words) if word in SEPARATORS]
            yield words[: min(ends, default=len(words))]


def parse(arguments: list[str]) -> argparse.Namespace:
    return cli._parser(arguments[0]).parse_args(arguments)


# ---- What is run


@pytest.mark.parametrize("page", [page for page in DOCS if "<!-- run" in page.read_text()], ids=lambda page: page.name)
def test_what_a_page_marks_to_be_run_runs(page: Path, tmp_path: Path) -> None:
    """GIVEN an empty folder WHEN the page's files are written and its lines are run in order THEN all succeed."""
    pytest.importorskip("torch")
    prelude = (
        f'set -e\ndiagnose() {{ "{sys.executable}" -m diagnose "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\n'
    )
    output = []
    for block in blocks(page):
        if block.mark is None or not block.mark.startswith("run"):
            continue
        _, _, name = block.mark.partition(": ")
        if name:
            (tmp_path / name).write_text(block.text)
            continue
        script = block.text if block.language == "sh" else f"python - <<'END'\n{block.text}END\n"
        done = subprocess.run(
            ["bash", "-c", prelude + script],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{tmp_path}", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        output.append(done.stdout)
    if page.name == "first-report.md":
        first, _, comparison = "\n".join(output).partition("Before:  before/")
        assert "saves" in first
        assert "the step waits for the next batch" in first
        assert "idle: data loading" in comparison
        assert (tmp_path / "report.html").stat().st_size > 100_000
    elif page.name == "adding-a-device.md":
        assert "7.00 TB/s" in output[0]  # what is reached
        assert "8.00 TB/s" in output[0]  # what the maker states
    elif page.name == "adding-a-rule.md":
        assert "2 passed" in output[0]


def test_the_json_example_prints_verdict_and_findings(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(REPO / "docs/json.md") if block.mark == "run: read_report.py"]
    document = report_documents.cpu_document()
    report = diagnose.Report(document)
    (tmp_path / "report.json").write_text(report.to_json())
    (tmp_path / "read_report.py").write_text(block.text)
    done = subprocess.run(
        [sys.executable, "read_report.py", "report.json"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert document.verdict.verdict in done.stdout
    assert all(finding.advice in done.stdout for finding in document.findings)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_are_python_and_name_what_exists(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        tree = ast.parse(block.text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "diagnose":
                assert hasattr(diagnose, node.attr), node.attr
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diagnose."):
                path = REPO / (node.module or "").replace(".", "/")
                assert path.is_dir() or path.with_suffix(".py").is_file(), node.module


def test_the_device_row_shown_stands_in_the_table() -> None:
    (row,) = [block.text for block in blocks(REPO / "docs/adding-a-device.md") if block.mark == "row"]
    assert row in (REPO / "diagnose/devices/datasheet.py").read_text()


# ---- Commands


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_in_blocks_are_understood(page: Path) -> None:
    for block in blocks(page):
        for arguments in commands(block.text) if block.language in SHELL else ():
            parse(arguments)


def test_every_command_is_in_some_block() -> None:
    shown = {found[0] for page in PAGES for block in blocks(page) if block.language in SHELL
             for found in commands(block.text)}  # fmt: skip
    assert shown == set(cli._COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_in_sentences_exist(page: Path) -> None:
    known = {"--help", "--version"} | {option for command in cli._COMMANDS for option in options_of(command)}
    for span in code_spans(page):
        words = span.split()
        if words[0] == "diagnose" and len(words) > 1:
            assert words[1] in cli._COMMANDS, span
            used = [word for word in words[2:] if word.startswith("-")]
            used = used if words[1] != "run" else []  # what follows the script is the script's
            assert set(used) <= options_of(words[1]), span
        elif re.fullmatch(r"--[a-z-]+", words[0]):
            assert words[0] in known | FOREIGN_OPTIONS, span


def options_of(command: str) -> set[str]:
    parser: Any = argparse.ArgumentParser()
    importlib.import_module(f"diagnose.commands.{command.replace('-', '_')}").add_arguments(parser)
    return set(parser._option_string_actions)


def test_a_wrong_option_would_be_noticed() -> None:
    (arguments,) = commands("diagnose report trace.json.gz --colour red  # a comment\necho diagnose\n")
    with pytest.raises(diagnose.UsageError):
        parse(arguments)


# ---- Links and names


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_named_exist(page: Path) -> None:
    for span in code_spans(page):
        named = re.fullmatch(r"(?:docs|tests|kernels|examples|benchmarks|diagnose)/[a-z0-9_./-]*", span)
        assert named is None or (REPO / span).exists(), span


def test_the_index_links_every_page_and_the_readme_links_the_index() -> None:
    index = (REPO / "docs/index.md").read_text()
    assert [page.name for page in DOCS if page.name != "index.md" and f"({page.name})" not in index] == []
    assert "(docs/index.md)" in (REPO / "README.md").read_text()


def test_pictures_are_shown_and_small() -> None:
    shown = (REPO / "docs/roofline.md").read_text()
    pictures = sorted((REPO / "docs/pictures").glob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        assert f"(pictures/{picture.name})" in shown
        assert picture.stat().st_size < 80_000


def test_the_pictures_can_be_made_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    subprocess.run(
        [sys.executable, REPO / "docs/pictures/make.py", tmp_path],
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )
    assert {path.name for path in tmp_path.glob("*.png")} == {
        path.name for path in (REPO / "docs/pictures").glob("*.png")
    }


def rules() -> set[str]:
    """The name of every rule, as proposals in the findings' modules have it."""
    found = set()
    for path in (REPO / "diagnose/findings").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "rule" and isinstance(node.value, ast.Constant):
                found.add(str(node.value.value))
    return found


def test_every_finding_is_explained() -> None:
    """A finding's name leads to a line of docs/recipes.md, and no line explains what does not exist."""
    explained = re.findall(r"^\| `([a-z0-9-]+)` \|", (REPO / "docs/recipes.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(rules())


# ---- The JSON report and the Markdown report


def json_keys() -> list[str]:
    return [span for span in code_spans(REPO / "docs/json.md") if re.fullmatch(r"\w+(\[\])?(\.\w+(\[\])?)+", span)]


def test_json_keys_named_exist() -> None:
    keys = [key for key in json_keys() if key.split(".")[0].removesuffix("[]") in Document.__struct_fields__]
    assert len(keys) > 40
    for key in keys:
        kind: Any = Document
        for part in key.split("."):
            fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
            name = part.removesuffix("[]")
            assert name in fields, key
            kind = fields[name]
            if part.endswith("[]"):
                assert getattr(kind, "__origin__", None) is list, key
                (kind,) = kind.__args__
            kind = next((each for each in getattr(kind, "__args__", ()) if hasattr(each, "__struct_fields__")), kind)


def test_every_key_of_the_document_and_every_part_is_described() -> None:
    text = (REPO / "docs/json.md").read_text()
    assert [name for name in Document.__struct_fields__ if f"| `{name}` |" not in text] == []
    assert [part for part in BOUND_OF_PART if f"`{part}`" not in text] == []


DOCUMENTS = {name: getattr(report_documents, name) for name in dir(report_documents) if name.endswith("_document")}


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=DOCUMENTS)
def test_markdown_has_fewer_than_60_lines_however_much_there_is(make: Any) -> None:
    document = make()
    many = msgspec.structs.replace(
        document,
        kernels=document.kernels * 30,
        findings=document.findings * 30,
        notes=[f"note {number}" for number in range(200)],
    )
    assert len(to_markdown(document).splitlines()) < 60
    assert len(to_markdown(many).splitlines()) < 60
