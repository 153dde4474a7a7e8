"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from diagnose.errors import DiagnoseError

_NEW_FILE_MODE = 0o666


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Writes ``content`` to ``path`` so that a reader sees the old file or the whole new one, never a part.

    Text is written as UTF-8. A link is followed, so that what it points to is replaced. Raises DiagnoseError where
    the file cannot be written.
    """
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    target = Path(path)
    try:
        _replace(Path(os.path.realpath(target)), data)
    except OSError as error:
        raise DiagnoseError(f"cannot write {target}: {error.strerror or error}") from error


def _replace(target: Path, data: bytes) -> None:
    if target.exists() and not target.is_file():
        # A device or a pipe (/dev/stdout) cannot be replaced, and holds no old content to protect.
        with target.open("wb") as stream:
            stream.write(data)
        return
    import tempfile  # slow to import, and most reports are printed

    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(_mode_of(target))
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _mode_of(target: Path) -> int:
    """The old file's permissions, or those that any new file would get (mkstemp's are the owner's alone)."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return _NEW_FILE_MODE & ~mask
