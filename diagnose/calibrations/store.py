"""Calibrations kept in the user's cache: one small JSON file a device, driver, torch, power limit and thread count."""

from __future__ import annotations

import math
import os
import re
import time
from pathlib import Path
from typing import Final

import msgspec

from diagnose.calibrations.calibrated import CALIBRATION_VERSION, Calibrated, Identity
from diagnose.errors import DiagnoseError
from diagnose.output import write_whole

FOLDER_VARIABLE: Final = "TORCH_DIAGNOSE_CACHE"
"""Environment variable that names another folder than the user's cache."""

_LARGEST_FILE: Final = 1 << 20
_MEMORY_TOLERANCE: Final = 0.05
"""Drivers keep some memory to themselves, more or less of it by version."""


def cache_folder() -> Path:
    """Where calibrations are kept; it need not exist."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "torch-diagnose" / "calibrations"


def keep(calibrated: Calibrated) -> Path:
    """Writes it, in place of an older one of the same identity. DiagnoseError where that fails."""
    path = cache_folder() / _file_name(calibrated.identity)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiagnoseError(f"cannot make the folder {path.parent}: {error.strerror or error}") from error
    write_whole(path, msgspec.json.format(msgspec.json.encode(calibrated), indent=1))
    return path


def _file_name(identity: Identity) -> str:
    """A readable beginning, and a digest of all that makes two calibrations different ones."""
    readable = re.sub(r"[^a-z0-9]+", "-", identity.name.casefold()).strip("-")[:40]
    kept_by = msgspec.structs.replace(identity, sms=None, memory_bytes=None)
    import hashlib  # slow to import, and only a calibration that is kept needs it

    digest = hashlib.sha256(msgspec.json.encode(kept_by)).hexdigest()[:16]
    return f"{readable or identity.kind}-{digest}.json"


def kept() -> tuple[list[Calibrated], list[str]]:
    """Every calibration that can be read, the newest first; and the names of the files that cannot."""
    found: list[Calibrated] = []
    damaged: list[str] = []
    try:
        paths = sorted(cache_folder().glob("*.json"))
    except OSError:
        return [], []
    for path in paths:
        read = _read(path)
        if read is None:
            damaged.append(path.name)
        else:
            found.append(read)
    return sorted(found, key=lambda each: -each.epoch_s), damaged


def _read(path: Path) -> Calibrated | None:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        found = msgspec.json.decode(path.read_bytes(), type=Calibrated)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.version == CALIBRATION_VERSION and _is_sound(found) else None


def _is_sound(calibrated: Calibrated) -> bool:
    values = [
        value for row in calibrated.ceilings for value in (row.achievable, row.datasheet, row.low, row.high)
        if value is not None
    ]  # fmt: skip
    return bool(values) and all(math.isfinite(value) and value > 0 for value in values)


def _fit() -> list[Calibrated]:
    """Those that may be in force."""
    return [each for each in kept()[0] if each.unfit is None]


def previous(identity: Identity) -> Calibrated | None:
    """The calibration of this very device as it is now, fit or not."""
    return next((each for each in kept()[0] if not each.identity.differs_by(identity)), None)


def kept_for(identity: Identity) -> tuple[Calibrated | None, str | None]:
    """The calibration of this very device as it is now; if there is none, but one of it as it was, a note."""
    same = [each for each in _fit() if (each.identity.kind, each.identity.name) == (identity.kind, identity.name)]
    own = [each for each in same if not {"card", "machine"} & set(each.identity.differs_by(identity))]
    for each in own:
        if not each.identity.differs_by(identity):
            return each, None
    if not own:
        return None, None
    changed = " and ".join(own[0].identity.differs_by(identity))
    return None, (
        f"the calibration of {day(own[0])} is for another {changed}, and not used: run `diagnose calibrate` again"
    )


def kept_like(name: str, sms: int | None, memory_bytes: int | None) -> Calibrated | None:
    """The newest calibration of a GPU with this name and size: all that a foreign trace's header tells."""
    for each in _fit():
        its = each.identity
        if its.kind == "gpu" and _folded(its.name) == _folded(name) and _fits(its, sms, memory_bytes):
            return each
    return None


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _fits(identity: Identity, sms: int | None, memory_bytes: int | None) -> bool:
    """Whether nothing that is known contradicts: another size under the same name is another part, or a slice."""
    if None not in (sms, identity.sms) and sms != identity.sms:
        return False
    if memory_bytes is None or identity.memory_bytes is None:
        return True
    return abs(memory_bytes - identity.memory_bytes) <= _MEMORY_TOLERANCE * identity.memory_bytes


def day(calibrated: Calibrated) -> str:
    """The day it was made, as text: ``2026-03-01``."""
    return time.strftime("%Y-%m-%d", time.gmtime(calibrated.epoch_s))
