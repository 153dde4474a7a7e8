"""Compares what was recorded with closed forms and counters: ``compare.json`` and ``kernels/NAME.csv``.

    python -m benchmarks.gpu.compare --out DIR

Reads what ``record`` and ``count`` left in DIR, on whatever machine; no GPU and no torch device is needed for it.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.environment import Options, chosen, each, options_of, why_unusable
from benchmarks.gpu.judging import LONG_NS, agreed_share, spread_of

_COLUMNS: Final = (
    "kernel", "op", "family", "calls", "time_ns", "source", "is_bound", "bytes", "dram_bytes", "l2_bytes", "why",
    "bound", "efficiency", "flags", "theirs", "sm_percent", "memory_percent", "agreed",
)  # fmt: skip
_LISTED: Final = 8
"""Misses of each kind that a workload's summary names, the longest first; the CSV has all."""


def run(options: Options) -> dict[str, Any]:
    """Compares every workload that was recorded."""
    reason = why_unusable()
    if reason:
        raise SystemExit(f"compare: {reason}; it can run elsewhere on the same folder")
    path = options.out / "record.json"
    if not path.is_file():
        raise SystemExit(f"compare: {path} is missing: run record first")
    recorded = json.loads(path.read_text())
    (options.out / "kernels").mkdir(parents=True, exist_ok=True)

    def done(rows: dict[str, Any]) -> None:
        # The facts are those of the machine that recorded, not of the one that compares.
        body = {"facts": recorded["facts"], "is_small": recorded["is_small"], "workloads": rows}
        (options.out / "compare.json").write_text(json.dumps(body, indent=1) + "\n")

    names = chosen(recorded["steps"], options)
    return each(names, options, lambda name: compare_one(name, recorded["steps"][name], options.out), done)


def compare_one(name: str, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One workload's summary; its kernels go to a CSV file."""
    from benchmarks.gpu.kernel_table import table_of

    for key in ("unavailable", "error", "skipped", "why_no_trace"):
        if key in row:
            return {key: row[key]}
    counters = folder / "counters" / f"{name}.csv"
    table = table_of(folder / "traces" / row["trace"], counters if counters.is_file() else None)
    rows = sorted(table.rows, key=lambda each: -each["time_ns"])
    with (folder / "kernels" / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    total = sum(each["time_ns"] for each in rows)
    found: dict[str, Any] = {
        "plain_ns": row["plain_ns"],
        "kernel_ns": total / table.steps,
        "flops": _flops(table.flops, row),
        "unknown_share": sum(each["time_ns"] for each in rows if each["source"] is None) / total if total else None,
        "probe_bytes": _probe_bytes(rows, row["closed_form_bytes"], table.steps),
        "above_roof": _above_roof(rows),
        "built_to_be": row["built_to_be"],
        "bound": rows[0]["bound"] if rows else None,
        "efficiency": rows[0]["efficiency"] if rows else None,
        "notes": table.notes,
    }
    return found | (_with_counters(rows, table.l2_bytes) if any("dram_bytes" in each for each in rows) else {})


def _flops(ours: dict[str, float], row: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By family: ours, the closed form, torch's counter."""
    closed, torch_counter = row["closed_form_flops"] or {}, row.get("torch_counter_flops") or {}
    families = sorted({*closed, *torch_counter} | {family for family in ours if closed})
    sources = {"ours": ours, "closed_form": closed, "torch_counter": torch_counter}
    return {
        family: {label: values[family] for label, values in sources.items() if family in values} for family in families
    }


def _probe_bytes(rows: list[dict[str, Any]], closed_form: int | None, steps: int) -> dict[str, float | None] | None:
    """Ours of a step beside those written down by hand; None for what is no single kernel."""
    if closed_form is None:
        return None
    known = [each["bytes"] * each["calls"] for each in rows if each["bytes"] is not None]
    is_whole = len(known) == len(rows)
    return {"closed_form": closed_form, "ours": sum(known) / steps if is_whole else None}


def _above_roof(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [each for each in rows if {"above-roof", "ceiling-too-low"} & set(each["flags"].split())]
    return [_named(each, "flags") for each in found[:_LISTED]]


def _named(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row.get(key) for key in ("kernel", "op", "calls", "time_ns", "efficiency", *keys)}


def _with_counters(rows: list[dict[str, Any]], l2_bytes: int | None) -> dict[str, Any]:
    """Errors of bytes by family, agreement of bounds, and the misses of both."""
    known = [each for each in rows if each.get("dram_bytes") and each["bytes"] and not each["is_bound"]]
    long = [each for each in known if each["time_ns"] / each["calls"] > LONG_NS and each["bytes"] > (l2_bytes or 0)]
    families = sorted({each["family"] for each in long})
    pairs = {name: [(_error(each), each["time_ns"]) for each in long if each["family"] == name] for name in families}
    agreed, unjudged = agreed_share((each.get("agreed"), each["time_ns"]) for each in rows if "theirs" in each)
    wrong = [each for each in rows if each.get("agreed") is False]
    off = [each for each in long if abs(_error(each)) > 0.1]
    return {
        "bytes": {name: asdict(spread) for name, values in pairs.items() if (spread := spread_of(values))},
        "bytes_pairs": pairs,
        "judged_ns": sum(each["time_ns"] for each in rows if each.get("agreed") is not None),
        "agreed_share": agreed,
        "unjudged_ns": unjudged,
        "disagreements": [
            _named(each, "bound", "flags", "theirs", "sm_percent", "memory_percent") for each in wrong[:_LISTED]
        ],
        "byte_misses": [_named(each, "bytes", "dram_bytes", "l2_bytes", "why") for each in off[:_LISTED]],
    }


def _error(row: dict[str, Any]) -> float:
    """Of the formula's bytes against DRAM's."""
    return float(row["bytes"] / row["dram_bytes"] - 1)


def main() -> int:
    run(options_of(__doc__ or ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
