"""``what_if``: the recorded step on another device, with another batch, dtype or link, fused, from a graph.

The recording is run again with other kernel durations or host times; nothing else in it changes.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from diagnose.devices.detect import lookup
from diagnose.devices.user_rows import user_rows
from diagnose.errors import UsageError
from diagnose.findings.case import Case
from diagnose.predictions.changes import Changed, changed
from diagnose.predictions.times import Setting, factors_of
from diagnose.predictions.work import ITEM_BYTES, NARROW, family_of, multiplies_anything
from diagnose.roofs.ceilings import Ceilings, from_spec
from diagnose.schema import Interval
from diagnose.tables.prediction import Factor, FamilyRow, Outlook, Predicted
from diagnose.units import format_bytes_per_s, format_share

if TYPE_CHECKING:
    import pandas as pd

_DTYPES: Final = {"fp8": "float8", "fp4": "float4", "fp16": "float16", "half": "float16", "bf16": "bfloat16"}
WORTH_A_NOTE: Final = 0.10
"""Share of the kernel time without known work from which a note says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be different; None and False leave it as recorded."""

    device: str | None = None
    batch: float | None = None
    dtype: str | None = None
    fuse: bool = False
    graph: bool = False
    link: float | None = None


class Prediction:
    """What a recorded step would take. Made by ``Report.what_if``; ``print`` shows a small table.

    Attributes:
        tables: Everything that was found, as in the JSON.
    """

    def __init__(self, tables: Outlook) -> None:
        self.tables = tables

    @property
    def together(self) -> Predicted:
        """All that was asked for at once."""
        return self.tables.predictions[-1]

    @property
    def predictions(self) -> list[Predicted]:
        """Each change alone, then all together where there are several."""
        return self.tables.predictions

    def to_json(self, indent: int = 2) -> str:
        """Every table as JSON."""
        encoded = msgspec.json.encode(self.tables)
        return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()

    def to_markdown(self) -> str:
        """For an issue or a chat."""
        from diagnose.render.prediction_text import to_markdown

        return to_markdown(self.tables)

    def to_frame(self) -> pd.DataFrame:
        """A row a change and family of kernels, units in the names."""
        import pandas as pd

        rows = [
            {
                "change": one.change, "family": row.family, "calls": row.calls, "recorded_ns": row.recorded_ns,
                "low_ns": row.predicted_ns.low, "mid_ns": row.predicted_ns.mid, "high_ns": row.predicted_ns.high,
                "unknown_ns": row.unknown_ns,
            }
            for one in self.tables.predictions
            for row in one.families
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        from diagnose.render.prediction_text import to_text

        return to_text(self.tables)

    def __repr__(self) -> str:
        step = self.together.step_ns
        return f"<diagnose.Prediction: {self.together.change}, {step.low} to {step.high} ns a step>"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def batch_of(value: float | str) -> float:
    """``2``, ``"2"`` or ``"x2"`` as a factor."""
    text = str(value).strip().lower().removeprefix("x")
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1e6:
        raise UsageError(f"batch {value!r} is no factor like x2 or 0.5")
    return factor


def predict(case: Case, asked: Asked, path: str | None = None) -> Prediction:
    """Runs the recording again with what is asked for: each change alone, and all together.

    Args:
        case: The recording.
        asked: What is to be different.
        path: Of the recording.

    Raises:
        UsageError: Nothing was asked for, or the device or the recording does not allow it.
        UnknownDeviceError: There is no such device.
    """
    asked = _checked(case, asked)
    if not case.replayer.is_trusted:
        raise UsageError("; ".join(case.replayer.notes) or "the recording has no time that could be run again")
    ceilings = None if asked.device is None else _ceilings(case, asked.device)
    parts = [_alone(asked, name) for name, _ in _given(asked)]
    predictions = [_predicted(case, part, ceilings) for part in parts]
    if len(parts) > 1:
        predictions.append(_predicted(case, asked, ceilings))
    outlook = Outlook(
        path=path,
        device=" and ".join(dict.fromkeys(row.name for row in case.placed.hardware.rows.values())),
        step_ns=_step_ns(case, np.diff(case.placed.recording.steps.boundaries)),
        kernel_ns=_kernel_ns(case, case.replayer.duration),
        predictions=predictions,
        notes=[*case.replayer.notes, *_notes(case)],
    )
    return Prediction(outlook)


def _alone(asked: Asked, name: str) -> Asked:
    """One of the changes."""
    return Asked(
        device=asked.device if name == "device" else None,
        batch=asked.batch if name == "batch" else None,
        dtype=asked.dtype if name == "dtype" else None,
        fuse=asked.fuse and name == "fuse",
        graph=asked.graph and name == "graph",
        link=asked.link if name == "link" else None,
    )


def _given(asked: Asked) -> list[tuple[str, float | str | bool]]:
    named = {name: getattr(asked, name) for name in ("device", "batch", "dtype", "link", "fuse", "graph")}
    return [(name, value) for name, value in named.items() if value]


def _checked(case: Case, asked: Asked) -> Asked:
    """The question with its dtype by torch's name; UsageError where it makes no sense for the recording."""
    if not _given(asked):
        raise UsageError("ask for something: device, batch, dtype, fuse, graph or link")
    dtype = None if asked.dtype is None else _DTYPES.get(asked.dtype.removeprefix("torch."), asked.dtype)
    dtype = None if dtype is None else dtype.removeprefix("torch.").partition("_")[0]
    if dtype is not None and dtype not in ITEM_BYTES:
        raise UsageError(f"dtype {asked.dtype!r}: known are {', '.join(sorted(ITEM_BYTES))}")
    if case.is_cpu and (asked.device or asked.graph or asked.link):
        raise UsageError("the recording is of a CPU: device, graph and link are questions about accelerators")
    if asked.graph and case.holds_capture:
        raise UsageError("a device graph was captured inside the window: what was launched there is not the step")
    if asked.link is not None and not 0 < asked.link < 1e15:
        raise UsageError(f"link {asked.link!r}: bytes a second, one way, as 900e9")
    asked = replace(asked, dtype=dtype)
    if dtype is not None and multiplies_anything(case):
        targets = [_ceilings(case, asked.device)] if asked.device else list(case.placed.hardware.ceilings.values())
        lacking = [each for each in targets if each.get(f"tensor.{dtype}") is None]
        if lacking or not targets:
            raise UsageError(f"dtype {dtype}: no ceiling is known for it on {asked.device or 'the recorded device'}")
    return asked


def _ceilings(case: Case, name: str) -> Ceilings:
    key = next(iter(case.placed.hardware.keys.values()), "cuda:0")
    return from_spec(key, lookup(name, user_rows()))


def _predicted(case: Case, asked: Asked, ceilings: Ceilings | None) -> Predicted:
    setting = Setting(ceilings if asked.device else None, asked.batch or 1.0, asked.dtype, asked.link)
    factors, guessed = factors_of(case, setting)
    world = changed(case, factors, fuse=asked.fuse, graph=asked.graph)
    found = sorted(_step_ns(case, np.diff(case.replayer.boundaries(change))) for change in world.changes[::2])
    middle = _step_ns(case, np.diff(case.replayer.boundaries(world.changes[1])))
    step = Interval(min(found[0], middle), middle, max(found[1], middle))
    recorded = _step_ns(case, np.diff(case.placed.recording.steps.boundaries))
    speedup = Factor(*(recorded / max(1, ns) for ns in (step.high, step.mid, step.low)))
    batch = asked.batch or 1.0
    kernel = [_kernel_ns(case, duration) for duration in world.durations]
    return Predicted(
        change=_words(asked),
        step_ns=step,
        kernel_ns=Interval(min(kernel), kernel[1], max(kernel)),
        speedup=speedup,
        throughput=Factor(batch * speedup.low, batch * speedup.mid, batch * speedup.high),
        families=_families(case, world, guessed),
        assumptions=_assumptions(case, asked, guessed, world),
    )


def _step_ns(case: Case, walls: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    """Median of the steady steps; of all where none is."""
    steady = [int(ns) for ns, step in zip(walls.tolist(), case.steps, strict=True) if step.steady]
    return statistics.median_low(steady or [int(ns) for ns in walls.tolist()])


def _kernel_ns(case: Case, duration: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    return int(duration[case.group_of >= 0].sum()) // max(1, len(case.steps))


def _families(case: Case, world: Changed, guessed: set[int]) -> list[FamilyRow]:
    groups, steps = case.placed.groups, max(1, len(case.steps))
    own = case.group_of >= 0
    of_group = case.group_of[own]
    after = [np.bincount(of_group, weights=each[own], minlength=len(groups)) for each in world.durations]
    left = np.bincount(of_group, weights=~world.gone[own], minlength=len(groups))
    sums: dict[str, list[float]] = {}
    for group in range(len(groups)):
        unknown = int(groups.time[group]) if group in guessed else 0
        values = (int(groups.time[group]), *(each[group] for each in after), unknown, left[group])
        row = sums.setdefault(family_of(case, group), [0.0] * len(values))
        for index, value in enumerate(values):
            row[index] += float(value) / steps
    rows = [
        FamilyRow(
            family=family,
            calls=round(row[5], 2),
            recorded_ns=round(row[0]),
            predicted_ns=Interval(round(min(row[1:4])), round(row[2]), round(max(row[1:4]))),
            unknown_ns=round(row[4]),
        )
        for family, row in sums.items()
    ]
    return sorted(rows, key=lambda row: -row.recorded_ns)


def _words(asked: Asked) -> str:
    given = _given(asked)
    if len(given) > 1:
        return "together"
    name, value = given[0]
    if name == "batch":
        return f"batch x{value:g}"
    if name == "link":
        return f"link {format_bytes_per_s(float(value))}"
    return name if value is True else f"{name} {value}"


def _assumptions(case: Case, asked: Asked, guessed: set[int], world: Changed) -> list[str]:
    said = ["the host takes as long as recorded"] if not asked.graph else []
    if asked.device is not None:
        said.append(f"kernels reach the same share of their roof on {asked.device}, between its published ceilings")
    if asked.batch is not None:
        said.append("inputs grow, weights and their gradients do not; loading a larger batch costs the host nothing")
    if asked.dtype in NARROW:
        said.append(f"matrix products alone run in {asked.dtype}; scaling and casting are free, the accuracy is yours")
    elif asked.dtype is not None:
        said.append(f"every wider tensor becomes {asked.dtype}, weights of the optimizer stay; the accuracy is yours")
    if asked.link is not None:
        said.append("of a collective only the transfer scales with the link, latency and waiting for others stay")
    if asked.fuse:
        said.append(
            f"{int(world.gone.sum())} pointwise kernels join their neighbour on the stream, as a compiler would"
        )
    if asked.graph:
        said.append("one graph a step: shapes and addresses stay, and nothing inside waits for the device")
    guessed_ns = case.time_ns(guessed) if guessed else 0
    if guessed_ns:
        share = guessed_ns / max(1, int(case.placed.groups.time.sum()))
        said.append(
            f"{format_share(share)} of the kernel time has no known work: scaled by a ratio, the ends say how far"
        )
    return said


def _notes(case: Case) -> list[str]:
    extras = case.extras
    plain = None if extras is None else extras.step_plain_ns
    recorded = None if extras is None else extras.step_recorded_ns
    if plain is None or recorded is None or recorded < (1 + WORTH_A_NOTE) * plain:
        return []
    return [f"recording made the step {recorded / plain:.2f} times as long; the prediction is of the recorded step"]
