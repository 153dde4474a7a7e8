"""The report over many ranks as an object, and how one is made."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Self

from diagnose.analysis import Options
from diagnose.output import write_whole
from diagnose.ranks.gathering import gather
from diagnose.render.ranks_json import ranks_from_json, ranks_to_json
from diagnose.report import Report
from diagnose.schema import Finding
from diagnose.tables.ranks import ClockOffset, Imbalance, JoinedCollective, RankRow, RanksDocument


class RanksReport:
    """What limits a job of many ranks: each rank's report, and who waits for whom. Made by ``read_ranks``.

    Attributes:
        document: Every table, as in the JSON report.
    """

    def __init__(self, document: RanksDocument) -> None:
        self.document = document

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """The report that ``to_json`` wrote; TraceError where ``data`` is none."""
        return cls(ranks_from_json(data))

    @property
    def verdict(self) -> str:
        """Who waits for whom, in a sentence."""
        return self.document.verdict

    @property
    def table(self) -> list[RankRow]:
        """One row a rank."""
        return self.document.table

    @property
    def imbalance(self) -> Imbalance:
        """The busiest rank's work over the mean."""
        return self.document.imbalance

    @property
    def collectives(self) -> list[JoinedCollective]:
        """Each collective as all of its ranks saw it."""
        return self.document.collectives

    @property
    def findings(self) -> list[Finding]:
        """What to do about the rank that the others wait for; what a rank shows by itself is in its own report."""
        return self.document.findings

    @property
    def offsets(self) -> list[ClockOffset]:
        """How far the ranks' clocks are apart."""
        return self.document.offsets

    @property
    def notes(self) -> list[str]:
        """What is missing or was assumed."""
        return self.document.notes

    @property
    def reports(self) -> dict[int, Report]:
        """Each rank's own report, by rank."""
        return {
            row.rank: Report(document) for row, document in zip(self.document.table, self.document.ranks, strict=True)
        }

    def to_json(self, indent: int = 2) -> str:
        """The whole report; ``ranks.schema.json`` in this package describes it."""
        return ranks_to_json(self.document, indent)

    def to_markdown(self) -> str:
        """The tables for an issue or a chat."""
        from diagnose.render.ranks_markdown import ranks_to_markdown

        return ranks_to_markdown(self.document)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON report, whole or not at all."""
        write_whole(path, self.to_json() + "\n")

    def __str__(self) -> str:
        from diagnose.render.ranks_text import ranks_to_text

        return ranks_to_text(self.document, ascii_only=not _prints_dots())

    def __repr__(self) -> str:
        return f"<diagnose.RanksReport of {len(self.table)} ranks: {self.verdict}>"


def _prints_dots() -> bool:
    try:
        "…·".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def read_ranks(
    sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str], *, dask: Any = None, **options: Any
) -> RanksReport:
    """Reads the recordings of a job's ranks and says who waits for whom, and why.

    Each is analysed in a process of its own where that pays.

    Args:
        sources: Paths, patterns (``"out/*.json.gz"``) or folders; a single one may be given without a list.
        dask: Address of a Dask scheduler, or a ``distributed.Client``, whose workers reach the same paths.
        options: As for ``diagnose.read``: ``device``, ``window``, ``step``.

    Raises:
        TraceError: A file is no trace.
        UsageError: No file fits, or an option does not.
    """
    return RanksReport(gather(sources, Options(**options), dask))
