"""The waterfall once more by phase, and by the user's annotations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diagnose.items import Recording
from diagnose.roofs.hardware import Hardware
from diagnose.schema import BOUND_OF_PART, AnnotationRow, PhaseRow
from diagnose.trace.tables import Ints
from diagnose.wall.phases import PHASES
from diagnose.wall.timeline import Timeline, labels_of
from diagnose.wall.waterfall import PARTS

_WHOLE = -1


def phase_rows(recording: Recording, timelines: Mapping[int, Timeline], hardware: Hardware) -> list[PhaseRow]:
    """Every part that owns time in a phase, of the whole window and of each step; none where no phase is known."""
    rank = recording.trace.process_rank
    walls = np.diff(recording.steps.boundaries).tolist()
    rows: list[PhaseRow] = []
    for device, found in timelines.items():
        phase, _ = labels_of(found)
        if (phase < 0).all():
            continue
        cells = found.cells
        whole = np.full(len(cells.step), _WHOLE)
        for step in (whole, cells.step):
            for where, named, part, ns in _summed(step, phase, cells.part, cells.ns):
                rows.append(
                    PhaseRow(
                        process_rank=rank,
                        device=hardware.keys[device],
                        step=None if where == _WHOLE else where,
                        phase=None if named < 0 else PHASES[named],
                        part=PARTS[part],  # type: ignore[arg-type]
                        bound=BOUND_OF_PART[PARTS[part]],
                        ns=ns,
                        share=ns / (sum(walls) if where == _WHOLE else walls[where]),
                    )
                )
    return rows


def annotation_rows(recording: Recording, timelines: Mapping[int, Timeline], hardware: Hardware) -> list[AnnotationRow]:
    """Every part that owns time under an annotation, of the window; none where the user annotated nothing."""
    wall = int(recording.steps.boundaries[-1] - recording.steps.boundaries[0])
    rows: list[AnnotationRow] = []
    for device, found in timelines.items():
        _, annotation = labels_of(found)
        if (annotation < 0).all():
            continue
        cells = found.cells
        for _, named, part, ns in _summed(np.zeros(len(cells.step), np.int64), annotation, cells.part, cells.ns):
            rows.append(
                AnnotationRow(
                    process_rank=recording.trace.process_rank,
                    device=hardware.keys[device],
                    annotation=None if named < 0 else found.annotations[named],
                    part=PARTS[part],  # type: ignore[arg-type]
                    bound=BOUND_OF_PART[PARTS[part]],
                    ns=ns,
                    share=ns / wall,
                )
            )
    return rows


def _summed(step: Ints, label: Ints, part: Ints, ns: Ints) -> list[tuple[int, int, int, int]]:
    """(step, label, part, ns), each (step, label, part) once, in that order; what has no label comes last."""
    last = int(label.max(initial=0)) + 1
    columns = np.stack([step, np.where(label < 0, last, label), part], axis=1)
    distinct, place = np.unique(columns, axis=0, return_inverse=True)
    total = np.zeros(len(distinct), np.int64)
    np.add.at(total, place.reshape(-1), ns)
    return [
        (where, -1 if named == last else named, index, owned)
        for (where, named, index), owned in zip(distinct.tolist(), total.tolist(), strict=True)
    ]
