"""``%%diagnose`` in a real IPython shell."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("IPython")


@pytest.fixture
def shell():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "diagnose")
    shell.run_cell("import torch")
    return shell


def test_the_cell_runs_and_its_report_is_shown(shell):
    shell.run_cell("%%diagnose kept\ny = torch.ones(64, 64) @ torch.ones(64, 64)")
    report = shell.user_ns["kept"]
    assert shell.user_ns["y"].shape == (64, 64)
    assert "aten::mm" in {row.op for row in report.kernels}
    assert "Verdict" in report._repr_html_()
    assert shell.user_ns["_"] is report  # the cell's value, which a notebook shows


def test_an_error_in_the_cell_is_the_cells(shell, capsys):
    outcome = shell.run_cell("%%diagnose\nraise ValueError('boom')")
    assert outcome.success or outcome.error_in_exec is None
    assert "ValueError" in capsys.readouterr().out
