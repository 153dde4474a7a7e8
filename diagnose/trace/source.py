"""From whatever a user names to the bytes of a JSON document: path, URL or file object; plain or gzip.

Decompression is bounded, so that a small hostile file cannot fill the memory.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import BinaryIO, Final

from isal import igzip_lib, isal_zlib

from diagnose.errors import TraceError

MAX_BYTES: Final = 16 << 30
"""Largest document that is read, decompressed. A trace of five million events is about 2 GB."""

_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
"""How zlib is told to expect gzip's header and trailer."""
_LARGEST_EXPANSION: Final = 1032
"""Of deflate: so many bytes come out of one at most."""

Source = str | os.PathLike[str] | BinaryIO


def name_of(source: Source) -> str | None:
    """How the source is called in messages and in the report, None for a nameless file object."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else None


def read_bytes(source: Source) -> bytes:
    """The decompressed content.

    Args:
        source: A path, a URL that fsspec understands, or a binary file object.

    Raises:
        TraceError: No such file, cut off, not decompressible, or larger than ``MAX_BYTES``.
    """
    label = name_of(source) or "the file object"
    try:
        packed = _packed_bytes(source)
    except (OSError, ValueError, ImportError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(f"{label}: cannot be read: {reason}") from error
    if not packed:
        raise TraceError(f"{label}: is empty")
    if not packed.startswith(_GZIP):
        if label.endswith((".gz", ".gzip")):
            raise TraceError(f"{label}: is named .gz but is not gzip")
        return packed
    try:
        return _unpacked(packed, label)
    except (EOFError, OSError, zlib.error) as error:  # isal raises zlib's own error
        raise TraceError(f"{label}: the gzip data is cut off or damaged ({error})") from error


def _packed_bytes(source: Source) -> bytes:
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if "://" in text:
            import fsspec  # type: ignore[import-untyped]

            with fsspec.open(text, "rb") as file:
                return bytes(file.read(MAX_BYTES + 1))
        return Path(text).read_bytes()
    content = source.read()
    if isinstance(content, str):
        raise TypeError("open the file in binary mode")
    return bytes(content)


def _unpacked(packed: bytes, label: str) -> bytes:
    content = _in_one_piece(packed)
    if content is not None:
        return content
    from isal import igzip  # rarely needed

    with igzip.IGzipFile(fileobj=io.BytesIO(packed)) as file:  # type: ignore[no-untyped-call]
        # Ordinary files need no counted read.
        content = file.read(MAX_BYTES + 1) if len(packed) * _LARGEST_EXPANSION > MAX_BYTES else file.read()
    if len(content) > MAX_BYTES:
        raise TraceError(f"{label}: more than {MAX_BYTES >> 30} GiB when decompressed")
    return bytes(content)


def _in_one_piece(packed: bytes) -> bytes | None:
    """The content of the usual file, one gzip member that ends in its true length; None for any other.

    Memory of the right size is asked for at once, where a reader of any file gathers pieces and joins them: twice the
    time and twice the memory.
    """
    length = int.from_bytes(packed[-4:], "little")
    if not 0 < length <= min(len(packed) * _LARGEST_EXPANSION, MAX_BYTES):
        return None
    unpacker = isal_zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unpacker.decompress(packed, length)
    except (igzip_lib.IsalError, MemoryError):  # type: ignore[misc]  # its stub calls the error a plain class
        return None  # said by the reader of any file
    return bytes(content) if unpacker.eof and not unpacker.unused_data else None
