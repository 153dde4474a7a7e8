"""What every piece of the GPU harness shares: its arguments, its folder, the machine it ran on, its share of time.

Needs torch alone, so that recording and counting work where nothing else is installed.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

# Kineto prints a line at each start and stop; it reads this when it first starts.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

PIECES: Final = ("tests", "calibrate", "record", "count", "compare", "advise", "replay", "cost")
"""In the order in which they run: what compares comes after what it compares."""

PIECE_SECONDS: Final = 480.0
"""A piece begins nothing new after this, so that it ends well inside ten minutes."""

_NCU_PLACES: Final = ("/usr/local/cuda/bin/ncu", "/opt/nvidia/nsight-compute/ncu")


@dataclass(frozen=True, slots=True)
class Options:
    """What a piece is told.

    Attributes:
        out: The folder of results.
        device: As torch calls it.
        is_small: Tiny sizes, for trying the harness itself; always on a CPU.
        is_quick: Few workloads and few repetitions.
        only: Names of workloads or pairs; None takes all of them.
        seconds: After this nothing new is begun.
    """

    out: Path
    device: str
    is_small: bool = False
    is_quick: bool = False
    only: tuple[str, ...] | None = None
    seconds: float = PIECE_SECONDS

    @property
    def on_cpu(self) -> bool:
        """Whether there is no GPU to ask."""
        return torch.device(self.device).type == "cpu"


def options_of(description: str, argv: Sequence[str] | None = None) -> Options:
    """Reads a piece's arguments."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    add_arguments(parser)
    return as_options(parser.parse_args(argv))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), metavar="DIR", help="default: out/gpu")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu", help="cpu, cuda:0, ...")
    parser.add_argument("--small", action="store_true", help="tiny sizes: tries the harness, measures nothing")
    parser.add_argument("--quick", action="store_true", help="few workloads, few repetitions")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these workloads or pairs alone")
    parser.add_argument("--seconds", type=float, default=PIECE_SECONDS, help="begin nothing new after this")


def as_options(given: argparse.Namespace) -> Options:
    is_cpu = torch.device(given.device).type == "cpu"
    only = None if given.only is None else tuple(given.only)
    return Options(given.out, given.device, given.small or is_cpu, given.quick, only, given.seconds)


class Deadline:
    """How much of a piece's time is left."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._end - self._clock())

    @property
    def is_over(self) -> bool:
        """Whether nothing new should be begun."""
        return self.left <= 0


def facts(device: str) -> dict[str, Any]:
    """Device, versions and date, which stand in every file of results. Nothing that names the machine or its user."""
    found: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": _version("triton"),
        "transformers": _version("transformers"),
        "device": device,
        "device_name": processor_name(),
    }
    if torch.device(device).type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        names = ("name", "major", "minor", "multi_processor_count", "total_memory", "L2_cache_size", "clock_rate",
                 "memory_clock_rate", "memory_bus_width")  # fmt: skip
        found["device_name"] = properties.name
        found["properties"] = {name: getattr(properties, name) for name in names if hasattr(properties, name)}
    else:
        found["threads"] = torch.get_num_threads()
    return found


def processor_name() -> str:
    """The processor as Linux calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def why_unusable() -> str | None:
    """Why the package itself cannot be used here, None if it can; then traces are still recorded, bare."""
    missing = [name for name in ("msgspec", "isal") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed (GPU_WHEELS, docs/gpu.md)" if missing else None


def find_ncu() -> str | None:
    """Nsight Compute's command, None where it is not installed."""
    return shutil.which("ncu") or next((place for place in _NCU_PLACES if Path(place).is_file()), None)


def write_result(options: Options, name: str, body: dict[str, Any]) -> Path:
    """Writes ``OUT/NAME.json`` with the facts of the machine in front."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{name}.json"
    whole = {"facts": facts(options.device), "is_small": options.is_small, **body}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return path


def say(text: str) -> None:
    print(text, flush=True)


def chosen(names: Iterable[str], options: Options, quick: Sequence[str] = ()) -> list[str]:
    """Which of ``names`` are wanted; a name that is not there ends the piece."""
    known = list(names)
    if options.only is not None:
        unknown = sorted(set(options.only) - set(known))
        if unknown:
            sys.exit(f"no such name: {', '.join(unknown)}; there are: {', '.join(known)}")
        return [name for name in known if name in options.only]
    return [name for name in known if name in quick] if options.is_quick and quick else known


def kept_rows(options: Options, result: str) -> dict[str, Any]:
    """Rows that an earlier run left in the folder, for the same device and sizes; failures are tried again."""
    path = options.out / f"{result}.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same = (found["facts"]["device"], found["is_small"]) == (options.device, options.is_small)
        rows = found["steps"] if same else {}
        return {name: row for name, row in rows.items() if not {"error", "skipped"} & set(row)}
    except (ValueError, KeyError, TypeError, AttributeError):  # cut off, or from another version
        return {}


def each(
    names: Sequence[str],
    options: Options,
    run: Callable[[str], dict[str, Any]],
    done: Callable[[dict[str, Any]], None],
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Runs ``run`` for each name while there is time; what one of them cannot do does not cost the others.

    Args:
        names: Workloads or pairs.
        options: The piece's.
        run: Gives a row of results.
        done: Called with all rows after each one, so that a piece that is killed leaves what it has.
        kept: Rows of an earlier run, which are not run again.
    """
    deadline = Deadline(options.seconds)
    rows: dict[str, Any] = dict(kept or {})
    for name in names:
        if name in rows:
            say(f"{name:28s} done before")
            continue
        if deadline.is_over:
            rows[name] = {"skipped": f"not reached within {options.seconds:.0f} s"}
            continue
        begin = time.monotonic()
        try:
            rows[name] = run(name)
        except Exception as error:  # noqa: BLE001 - the next workload may work
            rows[name] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        rows[name]["seconds"] = round(time.monotonic() - begin, 2)
        say(f"{name:28s} {_shown(rows[name])}")
        done(rows)
        if not options.on_cpu:
            torch.cuda.empty_cache()
    return rows


def _shown(row: dict[str, Any]) -> str:
    for key in ("error", "skipped", "unavailable"):
        if key in row:
            return f"{key}: {row[key]}"
    return "  ".join(f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, (int, float)))
