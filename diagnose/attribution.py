"""Which part of each row's time was spent for which place in the code and in which phase of the step."""

from __future__ import annotations

import numpy as np

from diagnose.items import Recording
from diagnose.places.places import Places
from diagnose.pricing.grouping import Groups, sum_by, unique_rows
from diagnose.schema import Place
from diagnose.trace.extras import CodePlace
from diagnose.trace.link import taken
from diagnose.wall.phases import phases_of

_NOWHERE = CodePlace()


def row_places(recording: Recording, groups: Groups, places: Places) -> list[list[Place]]:
    """The distinct places of each group, most time first; their calls and times sum to the group's exactly.

    Args:
        recording: What ran.
        groups: Of its items.
        places: Of its ops.
    """
    items = recording.items
    names, phase = phases_of(recording)
    rows = np.flatnonzero(groups.of_item >= 0)
    group, place = groups.of_item[rows], taken(places.of_op, items.op)[rows]
    first, index = unique_rows([group, place, phase[rows]])
    calls = np.bincount(index, minlength=len(first))
    time = sum_by(index, items.duration[rows], len(first))
    found: list[list[Place]] = [[] for _ in range(len(groups))]
    for at in np.argsort(-time, kind="stable").tolist():
        head = first[at]
        code = places.distinct[place[head]] if place[head] >= 0 else _NOWHERE
        named = int(phase[rows[head]])
        found[group[head]].append(
            Place(
                code.module,
                code.line,
                code.caller,
                names[named] if named >= 0 else None,
                int(calls[at]),
                int(time[at]),
            )
        )
    return found
