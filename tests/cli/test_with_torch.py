"""``--with-torch``: what torch answers for ops without a formula, and only when it is asked."""

import json

import pytest

from diagnose import costs
from diagnose.cli import main
from diagnose.costs import registry
from tests.builders import TraceBuilder, launched

pytest.importorskip("torch")


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """One kernel of an op that has no formula."""
    costs.load()
    monkeypatch.delitem(registry._FORMULAS, "aten::_cdist_forward", raising=False)
    built = TraceBuilder()
    launched(built, "aten::_cdist_forward", [((8, 3), "float32"), ((5, 3), "float32"), 2.0, None], 50, 10)
    built.write(tmp_path / "trace.json")
    return str(tmp_path / "trace.json")


def report(capsys, *arguments):
    assert main(["report", *arguments, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (kernel,) = document["kernels"]
    return kernel, document["source"]["options"]["torch"]


def test_torch_tells_the_bytes_and_the_report_says_that_it_was_asked(trace, capsys):
    kernel, asked = report(capsys, trace, "--with-torch")
    assert asked
    assert (kernel["cost_source"], kernel["bytes_read"], kernel["bytes_written"]) == ("meta", 4 * (24 + 15), 4 * 40)
    assert kernel["flops"] is None


def test_without_it_nobody_asks(trace, capsys):
    kernel, asked = report(capsys, trace)
    assert not asked
    assert kernel["cost_source"] != "meta"


def test_where_torch_is_not_installed_it_is_a_usage_error(trace, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["report", trace, "--with-torch"]) == 2
    assert capsys.readouterr().err == "diagnose: --with-torch needs torch, which is not installed\n"
