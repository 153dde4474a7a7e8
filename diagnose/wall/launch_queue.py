"""How far the host runs ahead of a device, over time: what was launched and had not begun, and each launch's lead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnose.items import Recording
from diagnose.trace.tables import Ints


@dataclass(frozen=True, slots=True)
class LaunchQueue:
    """One device.

    Attributes:
        time: When the depth changes, ns from the recording's first event, ascending [t].
        depth: Items launched that have not begun, from that time on [t].
        launched: End of each launch call, or the item's start where that was earlier, in order of time [n].
        lead: Start of the item minus the end of its launch call [n]; below 0 where the item began inside the call.
    """

    time: Ints
    depth: Ints
    launched: Ints
    lead: Ints


def launch_queue(recording: Recording, device: int) -> LaunchQueue:
    """The queue of one device; empty where no launch was recorded.

    Args:
        recording: What ran.
        device: As recorded.
    """
    items = recording.items
    began = np.zeros(len(items.name), np.int64)
    began[items.spans.row] = items.spans.start
    rows = np.flatnonzero((items.device == device) & (items.call >= 0))
    start, returned = began[rows], recording.trace.calls.end[items.call[rows]]
    queued = np.minimum(returned, start)
    order = np.argsort(queued, kind="stable")
    time, place = np.unique(np.concatenate([queued, start]), return_inverse=True)
    change = np.zeros(len(time), np.int64)
    np.add.at(change, place.reshape(-1), np.repeat([1, -1], len(rows)))
    return LaunchQueue(time, np.cumsum(change), queued[order], (start - returned)[order])
