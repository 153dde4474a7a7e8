"""Which row of the table a device is: by its very name, else by what it is made of. Never by a part of a name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, Literal

from msgspec import Struct

from diagnose.devices.datasheet import DEVICES, DeviceSpec
from diagnose.devices.mig import read_slice, sliced
from diagnose.devices.user_rows import default_path
from diagnose.errors import UnknownDeviceError

MEMORY_TOLERANCE: Final = 0.05
"""Drivers keep some memory to themselves; sizes of different parts are further apart than this."""

_GIB_OVER_GB: Final = 2**30 / 10**9

By = Literal["name", "alias", "fingerprint", "user"]


class Identification(Struct, frozen=True):
    """What a device was found to be.

    Attributes:
        spec: Its row, None if there is none, or if several rows with different ceilings fit.
        by: What decided; ``user``: a row of the user's own file.
        candidates: Names of all rows that fit; more than one is a tie, which is to be said.
    """

    spec: DeviceSpec | None
    by: By | None
    candidates: tuple[str, ...] = ()


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


@cache
def _by_name() -> dict[str, tuple[DeviceSpec, By]]:
    found: dict[str, tuple[DeviceSpec, By]] = {}
    for spec in DEVICES:
        found[_folded(spec.name)] = (spec, "name")
        found.update({_folded(alias): (spec, "alias") for alias in spec.aliases})
    return found


def _named(name: str, sms: int | None, user: Sequence[DeviceSpec]) -> tuple[DeviceSpec, By] | None:
    """The row that bears the name, the user's own first, or the slice of one that does."""
    folded = _folded(name)
    for spec in user:
        if folded in map(_folded, spec.names):
            return spec, "user"
    if folded in _by_name():
        return _by_name()[folded]
    part = read_slice(name)
    whole = None if part is None else _named(part.whole, None, user)
    if part is None or whole is None:
        return None
    found = sliced(whole[0], part, name, sms)
    return None if found is None else (found, whole[1])


def _memory_fits(stated_bytes: int, seen_bytes: int) -> bool:
    # A maker's "80 GB" is 80e9 bytes on one part and 80 GiB on the next.
    stated = (stated_bytes, stated_bytes * _GIB_OVER_GB)
    return any(abs(seen_bytes - size) <= MEMORY_TOLERANCE * size for size in stated)


def _fits(spec: DeviceSpec, capability: tuple[int, int], sms: int, memory_bytes: int) -> bool:
    """Whether nothing that is known of ``spec`` contradicts; an unsourced cell excludes no device."""
    return (
        spec.compute_capability == capability
        and spec.sms in (None, sms)
        and (spec.memory_bytes is None or _memory_fits(spec.memory_bytes, memory_bytes))
    )


def _same_ceilings(a: DeviceSpec, b: DeviceSpec) -> bool:
    keys = ("dram_bytes_per_s", "flops_per_s", "intervals", "l2_bytes", "link_bytes_per_s", "pcie_generation", "stated")
    return all(getattr(a, key) == getattr(b, key) for key in keys)


def identify(
    name: str,
    compute_capability: tuple[int, int] | None,
    sms: int | None,
    memory_bytes: int | None,
    user: Sequence[DeviceSpec] = (),
) -> Identification:
    """The row of the device that a driver or a trace's header describes; ``user`` are the user's own rows."""
    named = _named(name, sms, user)
    if named is not None:
        return Identification(named[0], named[1], (named[0].name,))
    # A slice reports what it has, not what it was cut from: its own facts would fit a smaller device.
    is_slice = "mig" in _folded(name).split()
    if compute_capability is None or sms is None or memory_bytes is None or is_slice:
        return Identification(None, None)
    rows = [*user, *(spec for spec in DEVICES if spec.name not in {own.name for own in user})]
    fitting = [spec for spec in rows if _fits(spec, compute_capability, sms, memory_bytes)]
    names = tuple(spec.name for spec in fitting)
    # A row without an SM count or a memory size fits too easily to be the answer; it still makes a tie.
    whole = [spec for spec in fitting if spec.sms is not None and spec.memory_bytes is not None]
    if whole and all(_same_ceilings(whole[0], other) for other in fitting):
        return Identification(whole[0], "fingerprint", names)
    return Identification(None, None, names)


def lookup(name: str, user: Sequence[DeviceSpec] = (), sms: int | None = None) -> DeviceSpec:
    """The row that a user asks for by name; UnknownDeviceError, with names that look alike, if there is none.

    Args:
        name: As the driver reports it; also a slice's (``... MIG 3g.20gb``).
        user: The user's own rows, which win.
        sms: Of a slice, where known.
    """
    named = _named(name, sms, user)
    if named is not None:
        return named[0]
    known = {_folded(each): each for spec in (*DEVICES, *user) for each in spec.names}
    import difflib  # slow to import, and only an error needs it

    close = [known[each] for each in difflib.get_close_matches(_folded(name), known, n=3, cutoff=0.6)]
    alike = f" Names that look alike, none of which was taken: {', '.join(map(repr, close))}." if close else ""
    raise UnknownDeviceError(
        f"no row for the device {name[:100]!r}: names must be equal to what the driver reports.{alike} "
        "`diagnose devices` lists the rows; `diagnose calibrate` measures the ceilings of the machine it runs on; "
        f"a row of your own goes into {default_path()}, or into the file that --devices names."
    )
