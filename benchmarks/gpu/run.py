"""Runs the pieces of the GPU harness one after the other, each in a process of its own; a failed one stops no other.

    python -m benchmarks.gpu.run [PIECE ...] --out DIR [--quick] [--device cpu]

Without names: tests calibrate record count compare advise replay cost. Ends with 1 if a piece failed. ``summary.json``
says which, ``NAME.log`` why, and ``results.tar`` holds all that is worth carrying to another machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.environment import PIECES, Options, add_arguments, as_options, say, write_result

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_SECONDS: Final = 590.0
_RESULTS: Final = ("*.json", "*.log", "traces/*.gz", "counters/*.csv", "kernels/*.csv")


def run(pieces: list[str], options: Options, limit_s: float = LIMIT_SECONDS) -> dict[str, Any]:
    """Each piece's outcome: ``ok``, ``failed`` or ``took too long``, and its seconds."""
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for piece in pieces:
        say(f"== {piece}")
        begin = time.monotonic()
        outcome = run_one(command(piece, options), options.out / f"{piece}.log", limit_s)
        found[piece] = {"outcome": outcome, "seconds": round(time.monotonic() - begin, 1)}
        say(f"== {piece}: {outcome}, {found[piece]['seconds']} s")
        write_result(options, "summary", {"pieces": found})
    pack(options.out)
    return found


def command(piece: str, options: Options) -> list[str]:
    """What a piece is run with."""
    if piece == "tests":
        # On a machine without a GPU these are skipped, which is all that can be tried there.
        # The other tests' conftest needs hypothesis, which a machine without a package index may lack.
        alone = [] if importlib.util.find_spec("hypothesis") else ["--confcutdir=tests/gpu"]
        return [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-q", "-p", "no:cacheprovider", *alone]
    flags = [flag for flag, wanted in (("--quick", options.is_quick), ("--small", options.is_small)) if wanted]
    only = [] if options.only is None else ["--only", *options.only]
    told = ["--out", str(options.out.resolve()), "--device", options.device, "--seconds", str(options.seconds)]
    return [sys.executable, "-m", f"benchmarks.gpu.{piece}", *told, *flags, *only]


def run_one(arguments: list[str], log: Path, limit_s: float) -> str:
    """Runs a process with its output on the screen and in ``log``."""
    with log.open("w") as file:
        try:
            done = subprocess.run(
                arguments, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return "took too long"
        finally:
            file.flush()
            say(log.read_text(errors="replace").rstrip()[-6000:])
    return "ok" if done.returncode == 0 else f"failed ({done.returncode})"


def pack(folder: Path) -> Path:
    """One file of all results."""
    path = folder / "results.tar"
    with tarfile.open(path, "w") as tar:
        for pattern in _RESULTS:
            for each in sorted(folder.glob(pattern)):
                tar.add(each, each.relative_to(folder).as_posix())
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help=f"default: {' '.join(PIECES)}")
    add_arguments(parser)
    given = parser.parse_args()
    unknown = sorted(set(given.pieces) - set(PIECES))
    if unknown:
        parser.error(f"no such piece: {', '.join(unknown)}; there are: {' '.join(PIECES)}")
    found = run(given.pieces or list(PIECES), as_options(given))
    return 0 if all(each["outcome"] == "ok" for each in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
