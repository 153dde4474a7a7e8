"""The README's example runs, and prints what the README says it prints, numbers apart."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

pytest.importorskip("torch")


def blocks(readme: str) -> tuple[str, str]:
    """The example's code and its printed report."""
    part = readme.split("<!-- example:start -->")[1].split("<!-- example:end -->", maxsplit=1)[0]
    code = re.search(r"```python\n(.*?)```", part, re.DOTALL)
    output = re.search(r"```text\n(.*?)```", part, re.DOTALL)
    assert code
    assert output
    return code[1], output[1]


def headings(report: str) -> list[str]:
    """What does not depend on the machine: the labels that begin lines."""
    return re.findall(r"^(Verdict|Why|Next|Where the time goes| # kernel|Coverage)", report, re.MULTILINE)


def ops(report: str) -> set[str]:
    """The names in the kernel table."""
    return set(re.findall(r"^ *\d+ (\w+)", report, re.MULTILINE))


def test_the_example_prints_what_the_readme_shows(repo):
    code, shown = blocks((repo / "README.md").read_text())
    done = subprocess.run([sys.executable, "-c", code], cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert headings(done.stdout) == headings(shown)
    assert ops(done.stdout) == ops(shown) >= {"addmm", "gelu"}
