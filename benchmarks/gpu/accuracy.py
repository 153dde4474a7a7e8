"""Writes docs/accuracy.md from results of this harness. No figure on that page is typed by hand.

    python -m benchmarks.gpu.accuracy RESULTS... [--traces DIR] [-o docs/accuracy.md]

RESULTS are folders with a ``compare.json`` (``benchmarks.gpu.compare``), and an ``advise.json``, ``replay.json`` and
``cost.json`` where there are any. ``--traces`` adds what is known of the kernels of other people's recordings.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.judging import Spread, agreed_share, spread_of

OPENING: Final = """# Accuracy

How far this program's numbers are from what they should be. The page is written by `python -m benchmarks.gpu.accuracy`
from the results of the harness that [gpu.md](gpu.md) describes; no figure on it is typed by hand.
"""

NO_GPU: Final = """**Nothing on this page has been measured on a GPU yet.** Bytes against DRAM counters, the agreement
of bounds with Nsight Compute, advice, replay and the cost of recording on a GPU are therefore unknown, and stay so
until `make gpu` has run on one. What follows was measured on a CPU, with models of tiny size: it checks how FLOPs and
compulsory bytes are counted, and says nothing about a GPU's memory.
"""

Result = dict[str, Any]


def page(results: Sequence[Result], traces: Sequence[Result] = ()) -> str:
    """The whole page.

    Args:
        results: Of one folder each: ``compare`` and whatever else it has, by name.
        traces: Rows of ``published``.
    """
    of_gpu = [each for each in results if not each["compare"]["facts"]["device"].startswith("cpu")]
    parts = [OPENING, *([] if of_gpu else [NO_GPU])]
    for result in [*of_gpu, *(each for each in results if each not in of_gpu)]:
        parts += _of_result(result)
    return "\n".join([*parts, *_of_traces(traces)]).rstrip() + "\n"


def _of_result(result: Result) -> list[str]:
    compare = result["compare"]
    facts, workloads = compare["facts"], compare["workloads"]
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "torch", "cuda", "triton") if facts.get(name))
    size = "tiny sizes" if compare["is_small"] else "full sizes"
    parts = [f"## {facts['device_name']}\n", f"{facts['date']}, {versions}, {size}.\n"]
    parts += _flops(workloads)
    measured = {name: each for name, each in workloads.items() if "bytes" in each}
    if measured:
        parts += [*_bytes(measured), *_bounds(measured)]
    elif not facts["device"].startswith("cpu"):
        reason = result.get("count", {}).get("refused") or "no counters were recorded"
        parts += [f"### Bytes and bounds\n\nNot compared with counters: {reason}.\n"]
    parts += _probe_bytes(workloads)
    if not compare["is_small"]:  # kernels of a microsecond are no measure of a roof, or of anything that takes time
        parts += [*_above_roof(workloads), *_probes(workloads), *_predictions(result), *_cost(result)]
    return [*parts, *_missing(workloads)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows)]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _flops(workloads: dict[str, Any]) -> list[str]:
    """By family: our FLOPs over the closed form's, over workloads."""
    ours: defaultdict[str, list[float]] = defaultdict(list)
    torch_counter: defaultdict[str, list[float]] = defaultdict(list)
    misses = []
    for name, each in workloads.items():
        for family, values in each.get("flops", {}).items():
            closed = values.get("closed_form")
            if not closed:
                continue
            ours[family].append(values.get("ours", 0.0) / closed - 1)
            if values.get("torch_counter"):
                torch_counter[family].append(values["torch_counter"] / closed - 1)
            if abs(ours[family][-1]) > 1e-6:
                misses.append((name, family, _percent(ours[family][-1], signed=True), _percent(each["unknown_share"])))
    if not ours:
        return []
    rows = [
        (family, str(len(errors)), *_errors(errors), *_errors(torch_counter[family]))
        for family, errors in sorted(ours.items())
    ]
    head = ("family", "workloads", "median error", "worst", "torch's counter, median", "worst")
    text = (
        "### FLOPs of products against closed forms\n\nThe closed form is counted module by module from the shapes "
        "that pass through it (`benchmarks/gpu/closed_forms.py`). torch's own counter stands beside it "
        "where it counts the ops at all.\n"
    )
    parts = [text, _table(head, rows)]
    if misses:
        parts.append(_table(("workload", "family", "error", "kernel time without known work"), misses))
    return parts


def _errors(errors: Sequence[float]) -> tuple[str, str]:
    spread = spread_of((error, 1.0) for error in errors)
    return ("not counted", "") if spread is None else (_percent(spread.median), _percent(spread.worst))


def _percent(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "?"
    return f"{100 * value:+.2f} %" if signed else f"{100 * value:.2f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def _bytes(workloads: dict[str, Any]) -> list[str]:
    pairs: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for each in workloads.values():
        for family, values in each["bytes_pairs"].items():
            pairs[family] += [(error, time) for error, time in values]
    spreads = [(family, spread_of(values)) for family, values in sorted(pairs.items())]
    everything = spread_of(pair for values in pairs.values() for pair in values)
    rows = [_spread_row(family, spread) for family, spread in [*spreads, ("all", everything)] if spread]
    misses = [(name, miss) for name, each in workloads.items() for miss in each["byte_misses"]]
    misses.sort(key=lambda entry: -entry[1]["time_ns"])
    shown = [
        (
            name,
            str(miss["op"]),
            f"{miss['bytes'] / 1e6:.1f}",
            f"{miss['dram_bytes'] / 1e6:.1f}",
            miss["why"] or "not known",
        )
        for name, miss in misses
    ]
    about = "Kernels over 20 us whose compulsory bytes exceed the L2; the error is of our bytes."
    return [
        f"### Bytes against DRAM counters\n\n{about}\n",
        _table(("family", "rows", "median", "90th percentile", "worst", "by time"), rows),
        *([_table(("workload", "op", "ours, MB", "DRAM, MB", "why"), shown)] if shown else []),
    ]


def _spread_row(name: str, spread: Spread) -> tuple[str, ...]:
    return name, str(spread.count), *map(_percent, (spread.median, spread.p90, spread.worst, spread.by_time))


def _bounds(workloads: dict[str, Any]) -> list[str]:
    rows = [
        (name, _percent(each["agreed_share"]), f"{each['judged_ns'] / 1e6:.2f}", f"{each['unjudged_ns'] / 1e6:.2f}")
        for name, each in workloads.items()
    ]
    whole = [
        (value, time)
        for each in workloads.values()
        for value, time in (
            (True, (each["agreed_share"] or 0) * each["judged_ns"]),
            (False, (1 - (each["agreed_share"] or 0)) * each["judged_ns"]),
        )
    ]
    agreed, _ = agreed_share(whole)
    rows.append(("all", _percent(agreed), f"{sum(time for _, time in whole) / 1e6:.2f}", ""))
    wrong = sorted(
        ((name, miss) for name, each in workloads.items() for miss in each["disagreements"]),
        key=lambda entry: -entry[1]["time_ns"],
    )
    shown = [
        (name, str(miss["op"] or miss["kernel"][:40]), str(miss["bound"]), miss["flags"], miss["theirs"],
         f"{miss['sm_percent']:.0f} / {miss['memory_percent']:.0f}")
        for name, miss in wrong
    ]  # fmt: skip
    return [
        "### Our bound against Nsight Compute's verdict\n\nBy kernel time; what we place nowhere is not judged.\n",
        _table(("workload", "agreed", "judged, ms", "not judged, ms"), rows),
        *([_table(("workload", "op", "ours", "flags", "theirs", "SM / memory, %"), shown)] if shown else []),
    ]


def _probe_bytes(workloads: dict[str, Any]) -> list[str]:
    """Our bytes of probe kernels beside those written down by hand."""
    rows = [
        (name, str(values["closed_form"]), "not known" if values["ours"] is None else str(round(values["ours"])))
        for name, each in workloads.items()
        if (values := each.get("probe_bytes"))
    ]
    if not rows:
        return []
    about = "Compulsory bytes of one run, written down by hand in `kernels/`, and as the report has them."
    head = ("probe", "by hand", "reported")
    return [f"### Bytes of the probe kernels\n\n{about}\n", _table(head, rows)]


def _above_roof(workloads: dict[str, Any]) -> list[str]:
    rows = [
        (name, str(miss["op"] or miss["kernel"][:40]), f"{miss['time_ns'] / miss['calls'] / 1e3:.1f}", miss["flags"])
        for name, each in workloads.items()
        for miss in each.get("above_roof", [])
    ]
    if not rows:
        return []
    return ["### Above the roof\n", _table(("workload", "op", "us a call", "flags"), rows)]


def _probes(workloads: dict[str, Any]) -> list[str]:
    rows = [
        (name, each["built_to_be"], str(each["bound"]), _percent(each["efficiency"]))
        for name, each in workloads.items()
        if each.get("built_to_be")
    ]
    head = ("probe", "built to be", "called", "efficiency")
    return ["### Kernels built for one bound\n", _table(head, rows)] if rows else []


def _predictions(result: Result) -> list[str]:
    parts = []
    pairs = result.get("advise", {}).get("pairs", {})
    rows = [
        (name, f"{each['gained_ns'] / 1e3:.1f}", _predicted(each["prediction"]))
        for name, each in pairs.items()
        if "gained_ns" in each
    ]
    if rows:
        parts += [
            "### Advice against the clock\n",
            _table(("change", "gained, us a step", "predicted, us a step"), rows),
        ]
    scenarios = result.get("replay", {}).get("scenarios", {})
    rows = [
        (name, f"{each['measured_change_ns'] / 1e3:.1f}", _change(each))
        for name, each in scenarios.items()
        if "measured_change_ns" in each
    ]
    if rows:
        parts += ["### Replay against the clock\n", _table(("change", "measured, us", "predicted, us"), rows)]
    return parts


def _predicted(said: dict[str, Any] | str) -> str:
    if isinstance(said, str):
        return said
    if "mid_ns" not in said:
        return str(said.get("answer") or said.get("error"))
    low, mid, high = (said[key] / said["steps"] / 1e3 for key in ("low_ns", "mid_ns", "high_ns"))
    return f"{low:.1f} to {mid:.1f} to {high:.1f} ({said['rule']})"


def _change(row: dict[str, Any]) -> str:
    return f"{row['predicted_change_ns'] / 1e3:.1f}" if "predicted_change_ns" in row else row["no_prediction"]


def _cost(result: Result) -> list[str]:
    steps = result.get("cost", {}).get("steps", {})
    rows = [
        (name, *(f"{each[key] / 1e3:.1f}" for key in ("plain_ns", "torch_profiler_step_ns", "diagnose_step_ns")),
         _percent(each["more_than_torch_profiler"], signed=True))
        for name, each in steps.items()
        if "plain_ns" in each
    ]  # fmt: skip
    head = ("step", "plain, us", "torch.profiler, us", "diagnose, us", "more than torch.profiler")
    return ["### What recording costs\n", _table(head, rows)] if rows else []


def _missing(workloads: dict[str, Any]) -> list[str]:
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for name, each in workloads.items():
        reason = next((each[key] for key in ("unavailable", "error", "skipped", "why_no_trace") if key in each), None)
        if reason is not None:
            by_reason[reason].append(name)
    if not by_reason:
        return []
    return ["### Not measured here\n", *(f"- {reason}: {', '.join(names)}" for reason, names in by_reason.items()), ""]


def published(folder: Path) -> list[Result]:
    """Of each recording in a folder: how much of its kernel time has known work, and how much is above the roof."""
    from diagnose.reading import read

    rows = []
    for path in sorted(folder.glob("*.json.gz")):
        document = read(path).document
        total = document.coverage.kernel_ns
        above = sum(row.time_ns for row in document.kernels if "above-roof" in row.flags)
        shares = (document.coverage.costed_ns, document.coverage.bounded_ns, above)
        names = {row.name for row in document.devices}
        rows.append(
            {
                "date": dt.datetime.now(dt.UTC).date().isoformat(),
                "trace": path.name.removesuffix(".json.gz"),
                "device": ", ".join(sorted(name for name in names if name)) or "not named",
                "shapes": document.source.options.shapes,
                "kernel_ns": total,
                "shares": [share / total if total else None for share in shares],
            }
        )
    return rows


def _of_traces(rows: Sequence[Result]) -> list[str]:
    if not rows:
        return []
    table = [
        (
            row["trace"],
            row["device"],
            "yes" if row["shapes"] else "no",
            f"{row['kernel_ns'] / 1e6:.2f}",
            *map(_percent, row["shares"]),
        )
        for row in rows
    ]
    head = ("recording", "device", "shapes", "kernel time, ms", "known work", "a bound", "above the roof")
    text = (
        "## Other people's recordings\n\nPublished traces that the tests use and that are not part of this repository. "
        "Nobody knows what their kernels truly moved: this says how much of their time has known work, and how much of "
        "it is not believed because it would have been above the device's datasheet. Where shapes were not recorded, "
        f"only copies, sets and collectives can be known. Read on {rows[0]['date']}.\n"
    )
    return [text, _table(head, table)]


def load(folder: Path) -> Result:
    """A folder's results by name."""
    names = ("compare", "count", "advise", "replay", "cost")
    return {name: json.loads(path.read_text()) for name in names if (path := folder / f"{name}.json").is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS")
    parser.add_argument("--traces", type=Path, metavar="DIR")
    parser.add_argument("--published", type=Path, metavar="FILE", help="what an earlier --traces found (JSON)")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    results = [load(folder) for folder in given.results]
    missing = [str(folder) for folder, result in zip(given.results, results, strict=True) if "compare" not in result]
    if missing:
        parser.error(f"no compare.json in {', '.join(missing)}")
    traces = published(given.traces) if given.traces else []
    if given.published:
        if traces:
            given.published.write_text(json.dumps(traces, indent=1) + "\n")
        traces = json.loads(given.published.read_text())
    text = page(results, traces)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
