"""The recording for Perfetto: every kernel with its work and its place under the roof, and tracks beside it.

What was recorded stays as it was. Added are the argument ``diagnose`` of every activity (on a CPU of every op) that was
launched in the window, and a process of ours for each device: the waterfall's parts of each step, achieved FLOP/s and
bytes/s, and idle time by cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diagnose.analysis import Options, analyse
from diagnose.render.names import clean
from diagnose.render.selection import PART_WORDS
from diagnose.roofs.placing import Placed
from diagnose.trace.chrome import parse_trace
from diagnose.trace.rewrite import Track, rewritten
from diagnose.trace.tables import Ints
from diagnose.wall.timeline import Timeline
from diagnose.wall.waterfall import PARTS

_IDLE_LINE: Final = 1
_NS_PER_MS: Final = 1e6


def to_perfetto(content: bytes, label: str | None, options: Options | None = None) -> bytes:
    """The trace in ``content``, written back with what the analysis found.

    Args:
        content: A Kineto trace's JSON text.
        label: How to call it in messages.
        options: As for a report.

    Raises:
        TraceError: It is no trace, or not plain JSON, so that it cannot be written back unchanged.
    """
    seen: list[tuple[Placed, Mapping[int, Timeline]]] = []
    reading = parse_trace(content, label)
    analyse(reading, options, lambda placed, timelines: seen.append((placed, timelines)))
    ((placed, timelines),) = seen
    recording = placed.recording
    tracks = [
        event
        for number, (device, timeline) in enumerate(timelines.items())
        for event in _device_tracks(placed, number, device, timeline)
    ]
    return rewritten(content, recording.trace, recording.is_cpu, _arguments(placed), tracks)


def _arguments(placed: Placed) -> list[dict[str, Any] | None]:
    """What is added to each item; None for what was launched before the window."""
    groups, items = placed.groups, placed.recording.items
    shared = [_group_arguments(placed, index) for index in range(len(groups))]
    roofs = [placement.roof_ns for placement in placed.placements]
    return [
        None if group < 0 else _item_arguments(shared[group], roofs[group], duration)
        for group, duration in zip(groups.of_item.tolist(), items.duration.tolist(), strict=True)
    ]


def _group_arguments(placed: Placed, index: int) -> dict[str, Any]:
    """What equal items share; unknown stays null."""
    work, placement = placed.work(index), placed.placements[index]
    return {
        "bound": placement.bound,
        "flops": None if work is None else work.total_flops,
        "bytes_read": None if work is None else work.bytes_read,
        "bytes_written": None if work is None else work.bytes_written,
        "work_from": None if work is None else work.source,
        "roof_ns": placement.roof_ns,
        "flags": list(placement.flags),
        "reasons": [clean(reason) for reason in placed.reasons(index)],
    }


def _item_arguments(shared: dict[str, Any], roof_ns: float | None, duration_ns: int) -> dict[str, Any]:
    """With this very call's efficiency, and what it could be shorter by: its time above the roof."""
    if roof_ns is None or duration_ns <= 0:
        return {**shared, "efficiency": None, "recoverable_ns": None}
    return {
        **shared,
        "efficiency": round(roof_ns / duration_ns, 4),
        "recoverable_ns": max(0, round(duration_ns - roof_ns)),
    }


def _device_tracks(placed: Placed, number: int, device: int, timeline: Timeline) -> list[bytes]:
    name = f"torch-diagnose {placed.hardware.keys[device]}"
    track = Track(number, name, placed.recording.trace.epoch_ns)
    gaps = timeline.gaps
    cause = gaps.parts.argmax(axis=1) if len(gaps.start) else np.zeros(0, np.int64)
    words = [PART_WORDS[PARTS[part]] for part in cause.tolist()]
    return [
        *track.names,
        track.line(_IDLE_LINE, "idle, by cause"),
        *_waterfall(placed, track, timeline),
        *_rates(placed, track, device),
        *track.slices(_IDLE_LINE, words, gaps.start, gaps.end, lambda row: _parts_ns(gaps.parts[row])),
    ]


def _parts_ns(parts: Ints) -> dict[str, int]:
    return {f"{PARTS[part]}_ns": int(parts[part]) for part in np.flatnonzero(parts).tolist()}


def _waterfall(placed: Placed, track: Track, timeline: Timeline) -> list[bytes]:
    """Milliseconds of each step that each part owns, for as long as the step lasts."""
    boundaries = placed.recording.steps.boundaries
    present = np.flatnonzero(timeline.parts.sum(axis=0)).tolist()
    values = {PARTS[part]: [*(timeline.parts[:, part] / _NS_PER_MS).tolist(), 0.0] for part in present}
    return track.counters("waterfall, ms of the step", boundaries, values) if values else []


def _rates(placed: Placed, track: Track, device: int) -> list[bytes]:
    """Achieved FLOP/s and bytes/s: what runs at an instant, summed over streams. Unbelieved work counts as none."""
    items, groups = placed.recording.items, placed.groups
    spans = items.spans
    here = np.flatnonzero((items.device[spans.row] == device) & (spans.end > spans.start))
    row = spans.row[here]
    flops, moved = _group_rates(placed)
    duration_s = np.maximum(items.duration[row], 1) / 1e9
    rates = np.stack([flops[groups.of_item[row]], moved[groups.of_item[row]]]) / duration_s
    return _summed(track, spans.start[here], spans.end[here], rates)


def _group_rates(placed: Placed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FLOPs and bytes of one call of each group, 0 where they are not known; the last entry is for group -1."""
    works = [placed.work(index) if placement.is_believed else None for index, placement in enumerate(placed.placements)]
    flops = [0 if work is None else work.total_flops or 0 for work in works]
    moved = [0 if work is None else work.bytes_accessed or 0 for work in works]
    return np.array([*flops, 0], np.float64), np.array([*moved, 0], np.float64)


def _summed(track: Track, start: Ints, end: Ints, rates: NDArray[np.float64]) -> list[bytes]:
    """Samples wherever the sum changes."""
    if not start.size:
        return []
    at, where = np.unique(np.concatenate([start, end]), return_inverse=True)
    change = np.zeros((len(rates), len(at)))
    for series, rate in zip(change, rates, strict=True):
        np.add.at(series, where, np.concatenate([rate, -rate]))
        # Sums of floats leave dust where nothing runs.
    running = np.zeros(len(at), np.int64)
    np.add.at(running, where, np.repeat([1, -1], len(start)))
    total = np.where(np.cumsum(running) > 0, np.maximum(np.cumsum(change, axis=1), 0), 0.0)
    flops, moved = (np.round(series).tolist() for series in total)
    return track.counters("achieved", at, {"FLOP/s": flops, "bytes/s": moved})
