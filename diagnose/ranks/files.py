"""Which recordings make up a job, and which rank each of them is."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from diagnose.errors import UsageError

_ENDINGS: Final = (".json", ".json.gz")
_RANK: Final = re.compile(r"rank[_\-]?(\d+)|(?:^|[^a-z0-9])r(\d+)(?![a-z0-9])|\[(\d+)\]", re.IGNORECASE)


def found_files(sources: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[str]:
    """The files that paths, patterns and folders name, each once: shorter names first, then by their numbers.

    Raises UsageError for a pattern or folder without a recording in it. A path that is there is never a pattern.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    files = [path for source in given for path in _files(os.fspath(source))]
    return sorted(dict.fromkeys(files), key=_order)


def is_many(sources: Sequence[str]) -> bool:
    """Whether the arguments may name more than one recording: several, a pattern, or a folder."""
    return len(sources) > 1 or any(Path(text).is_dir() or _is_pattern(text) for text in sources)


def _is_pattern(text: str) -> bool:
    has_magic = "*" in text or "?" in text or ("[" in text and "]" in text)
    return has_magic and "://" not in text and not Path(text).exists()


def _files(text: str) -> list[str]:
    if Path(text).is_dir():
        found = [str(path) for path in Path(text).iterdir() if path.name.endswith(_ENDINGS)]
        if not found:
            raise UsageError(f"{text}: no .json or .json.gz file in this folder")
        return found
    if not _is_pattern(text):
        return [text]
    matching = glob.glob(text, recursive=True)  # noqa: PTH207 - an absolute pattern is no pattern of a Path
    if not matching:
        raise UsageError(f"{text}: no file fits this pattern")
    return matching


def _order(path: str) -> tuple[object, ...]:
    name = Path(path).name
    numbers = re.sub(r"\d+", lambda met: met[0].zfill(12), name)
    return (rank_of_name(path) is None, rank_of_name(path) or 0, len(name), numbers, path)


def rank_of_name(path: str) -> int | None:
    """The rank that a file's name tells: ``rank0``, ``rank_1``, ``r3``, ``[0]``; None where it tells none."""
    found = [next(group for group in met.groups() if group is not None) for met in _RANK.finditer(Path(path).name)]
    return int(found[-1]) if found else None  # the last one: a job's own name may hold a number too
