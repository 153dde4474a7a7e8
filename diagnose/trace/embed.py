"""The saved file itself: our key appended to Kineto's JSON, compressed copies, names that overwrite nothing.

Nothing here parses the file: a recording can be larger than memory has room for.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from diagnose.errors import DiagnoseError, TraceError
from diagnose.trace.extras import EXTRAS_KEY

_TAIL_BYTES: Final = 1 << 14
_HEAD_BYTES: Final = 1 << 22
_BLOCK_BYTES: Final = 1 << 20
_NEW_FILE_MODE: Final = 0o666

_TRACE_NAME: Final = re.compile(rb',?\s*"traceName":\s*"(?:[^"\\]|\\.)*"(?=\s*\}\s*$)')
"""Kineto's last key repeats the path that the file was first written to, which says nothing to anyone."""
_EXTERNAL_ID: Final = b'"External id": '
_NUMBER: Final = re.compile(rb"\d{1,18}")
_LIST: Final = re.compile(rb'"TensorList"')
_UNFINISHED: Final = re.compile(rb'"finished":\s*false')
_BASE_TIME: Final = re.compile(rb'"baseTimeNanoseconds":\s*(\d{1,19})\b')


def append_key(path: Path, value: bytes) -> None:
    """Adds ``"diagnose": value`` as the last top-level key of a JSON object, in place.

    Raises:
        TraceError: The file does not end as a JSON object does.
    """
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - _TAIL_BYTES)
        file.seek(start)
        tail = _TRACE_NAME.sub(b"", file.read())
        body = tail.rstrip()
        if not body.endswith(b"}"):
            raise TraceError(f"{path}: the recording is cut off (disk full?)")
        file.seek(start)
        file.write(body[:-1].rstrip() + b',"' + EXTRAS_KEY.encode() + b'":' + value + b"}\n")
        file.truncate()


def base_time_ns(path: Path) -> int | None:
    """What the file's ``ts`` count from, as nanoseconds of the system's clock; None where the header has none."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    found = _BASE_TIME.search(head, 0, head.find(b'"traceEvents"') if b'"traceEvents"' in head else len(head))
    return int(found.group(1)) if found else None


def has_unfinished(path: Path) -> bool:
    """Whether an event had not ended when the recording did; Kineto marks those."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return _UNFINISHED.search(text) is not None


def ids_with_lists(path: Path) -> list[int]:
    """The External ids of the ops that were given a list of tensors, ascending."""
    found = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for each in _LIST.finditer(text):
            number = _NUMBER.match(text, text.rfind(_EXTERNAL_ID, 0, each.start()) + len(_EXTERNAL_ID))
            if number is not None:
                found.add(int(number[0]))
    return sorted(found)


def save_copy(source: Path, target: str | os.PathLike[str]) -> Path:
    """Writes the recording to ``target``, compressed when its name ends in ``.gz``: whole or not at all."""
    final = Path(os.path.realpath(target))
    try:
        with _written_beside(source, final) as temporary:
            temporary.replace(final)
    except OSError as error:
        raise DiagnoseError(f"cannot write {target}: {error.strerror or error}") from error
    return Path(target)


def save_new(source: Path, folder: str | os.PathLike[str], stem: str) -> Path:
    """Writes the recording as ``folder/stem.json.gz``, or ``stem.1.json.gz``... where that is taken."""
    try:
        home = Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        with _written_beside(source, home / f"{stem}.json.gz") as temporary:
            number = 0
            while True:
                final = home / (f"{stem}.{number}.json.gz" if number else f"{stem}.json.gz")
                if _claimed(temporary, final):
                    return final
                number += 1
    except OSError as error:
        raise DiagnoseError(f"cannot write into {folder}: {error.strerror or error}") from error


def _claimed(temporary: Path, final: Path) -> bool:
    """Gives the finished file its name unless another file has it."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if final.exists():
            return False
        temporary.rename(final)
    return True


@contextmanager
def _written_beside(source: Path, final: Path) -> Iterator[Path]:
    """A complete copy under a passing name in the folder of ``final``; removed unless it was moved."""
    descriptor, name = tempfile.mkstemp(dir=final.parent, prefix=".diagnose-", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target, source.open("rb") as file:
            if final.name.endswith(".gz"):
                _compress(file, target)
            else:
                shutil.copyfileobj(file, target, _BLOCK_BYTES)
        temporary.chmod(_mode_of(final))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _compress(source: IO[bytes], target: IO[bytes]) -> None:
    from isal import igzip

    # isal's class has no annotations.
    with igzip.IGzipFile(filename="", mode="wb", compresslevel=1, fileobj=target, mtime=0) as packed:  # type: ignore[no-untyped-call]
        shutil.copyfileobj(source, packed, _BLOCK_BYTES)


def _mode_of(final: Path) -> int:
    """The old file's permissions, or those that any new file would get (mkstemp's are the owner's alone)."""
    if final.exists():
        return final.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return _NEW_FILE_MODE & ~mask
