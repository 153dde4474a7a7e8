"""Cuts a trace to what may be kept and shown: header keys on a list, no machine's folders, fewer than 200 kB.

    python -m benchmarks.gpu.cut TRACE.json[.gz] OUT.json.gz [--limit BYTES]

Header keys that are not on the list go, whatever they are: public traces were seen with a whole environment in theirs.
So do Python frames, which are most of a trace and name files. Where that is not small enough, whole steps go, the last
first; the events of the steps that stay are unchanged. Needs no package beside Python's own.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any, Final, Self

KEPT: Final = (
    "schemaVersion", "deviceProperties", "record_shapes", "with_stack", "with_flops", "profile_memory",
    "cuda_runtime_version", "cuda_driver_version", "displayTimeUnit", "baseTimeNanoseconds", "traceEvents", "diagnose",
)  # fmt: skip
"""Header keys that say what was recorded on what; ``diagnose`` is the package's own."""

LIMIT_BYTES: Final = 200_000

_DROPPED_CATEGORIES: Final = frozenset(("python_function", "cpu_instant_event"))
_FOLDER: Final = re.compile(r"(?:/[\w.+@~-]+){2,}/(?=[\w.-]+)")
_STEP: Final = re.compile(r"^(?:ProfilerStep#|diagnose\.profile#)\d+$")
_OURS_DROPPED: Final = frozenset(("tool_version",))


class TooLargeError(ValueError):
    """Even one step does not fit."""


def cut(content: bytes, limit: int = LIMIT_BYTES) -> bytes:
    """A trace, gzip or not, as a smaller gzip file.

    Args:
        content: Kineto's JSON.
        limit: Bytes of the result.

    Raises:
        TooLargeError: One step alone is larger.
    """
    text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    # Times stay the text they were: a float cannot hold them.
    trace = json.loads(text, parse_float=_Text)
    header = {key: trace[key] for key in KEPT if key in trace and key != "traceEvents"}
    events = [_clean(event) for event in trace.get("traceEvents", []) if event.get("cat") not in _DROPPED_CATEGORIES]
    while True:
        packed = gzip.compress(_encoded({**header, "traceEvents": events}), 9, mtime=0)
        if len(packed) <= limit:
            return packed
        fewer = _without_last_step(events)
        if fewer is None:
            raise TooLargeError(f"one step is {len(packed)} bytes, more than {limit}")
        events = fewer


class _Text(float):
    """A number that remembers how it was written."""

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str

    def __repr__(self) -> str:
        return self.text


def _encoded(trace: dict[str, Any]) -> bytes:
    """JSON with numbers as they were written: the encoder asks ``float.__repr__``, so they go in as marked strings."""
    marked = json.dumps(_marked(trace), separators=(",", ":"))
    return re.sub(r'"\\u0000([-+.\deE]+)\\u0000"', r"\1", marked).encode()


def _marked(value: Any) -> Any:
    if isinstance(value, _Text):
        return f"\0{value.text}\0"
    if isinstance(value, dict):
        return {key: _marked(each) for key, each in value.items()}
    return [_marked(each) for each in value] if isinstance(value, list) else value


def _clean(event: dict[str, Any]) -> dict[str, Any]:
    """Without folders of the machine, in names and in arguments that are text."""
    args = event.get("args")
    cleaned = {**event, "name": _FOLDER.sub("", event["name"])} if isinstance(event.get("name"), str) else dict(event)
    if isinstance(args, dict):
        cleaned["args"] = {
            key: _FOLDER.sub("", each) if isinstance(each, str) and key != "Concrete Inputs" else each
            for key, each in args.items()
        }
    return cleaned


def _without_last_step(events: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Events that began before the last step's mark, and what they launched; None where one step is left."""
    marks = sorted(float(event["ts"]) for event in events if _is_mark(event))
    if len(marks) < 2:
        return None
    end = marks[-1]
    is_host = {id(event): not _on_device(event) for event in events}
    kept_launches = {
        event.get("args", {}).get("correlation")
        for event in events
        if is_host[id(event)] and float(event.get("ts", 0)) < end
    } - {None}

    def stays(event: dict[str, Any]) -> bool:
        if event.get("ph") == "M" or "ts" not in event:
            return True
        if is_host[id(event)] or event.get("args", {}).get("correlation") is None:
            return float(event["ts"]) < end
        return event["args"]["correlation"] in kept_launches

    return [event for event in events if stays(event)]


def _is_mark(event: dict[str, Any]) -> bool:
    return event.get("cat") == "user_annotation" and bool(_STEP.match(str(event.get("name"))))


def _on_device(event: dict[str, Any]) -> bool:
    return event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=LIMIT_BYTES)
    given = parser.parse_args()
    try:
        packed = cut(given.trace.read_bytes(), given.limit)
    except TooLargeError as error:
        print(f"cut: {given.trace}: {error}", file=sys.stderr)
        return 1
    given.out.write_bytes(packed)
    print(f"{given.out}: {len(packed)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
