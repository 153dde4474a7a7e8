"""``%load_ext diagnose``, then ``%%diagnose`` at the top of a cell: runs the cell and shows what limits it."""

from __future__ import annotations

from typing import Any

from diagnose.errors import DiagnoseError
from diagnose.live.session import profile


def load_ipython_extension(shell: Any) -> None:
    """Makes the magic known; IPython calls this for ``%load_ext diagnose``."""

    def diagnose(line: str, cell: str) -> Any:
        """Runs the cell under ``diagnose.profile()`` and returns its report; ``%%diagnose name`` also keeps it."""
        with profile() as recorded:
            outcome = shell.run_cell(cell)
        if outcome.error_in_exec is not None or outcome.error_before_exec is not None:
            return None  # IPython has shown the error
        report = recorded.report
        if report is None:
            raise DiagnoseError(recorded.error or "nothing was recorded")
        if line.strip():
            shell.user_ns[line.strip()] = report
        return report

    shell.register_magic_function(diagnose, magic_kind="cell", magic_name="diagnose")
