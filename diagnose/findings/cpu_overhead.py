"""Rules about recordings of a CPU: Python between ops, and threads."""

from __future__ import annotations

from typing import Final

import numpy as np

from diagnose.findings.case import Case, Proposal
from diagnose.findings.engine import Rule
from diagnose.replays.claims import Cell
from diagnose.replays.replayer import Change

PYTHON_SHARE: Final = 0.20
"""Of the step between and inside ops that compute nothing to speak of: twice a lead of 10 points."""

COMPUTE_SHARE: Final = 0.20
"""Of the step that must be compute-bound for more threads to matter."""

THREADS_REACH: Final = (0.5, 0.8, 1.0)
"""Of the ideal speed-up by more threads, low, mid and high: half is what a memory-bound neighbour leaves, four fifths a
matrix product of a few hundred rows; an assumption, not a measurement."""


def python_bound(case: Case) -> list[Proposal]:
    """Python between ops and ops that only dispatch take a good part of a CPU's step.

    low: half of the time between ops goes. mid: all of it, and half of the small ops' own time: a compiled region calls
    one kernel where there were several ops. high: the small ops' time is gone too.
    """
    if not case.is_cpu:
        return []
    groups = case.groups_where(lambda group: case.placed.placements[group].bound == "overhead")
    steps = max(1, len(case.steps))
    between_ns, small_ns = case.idle_ns("idle_launch") // steps, int(case.exposed[groups].sum()) // steps
    share = (between_ns + small_ns) * steps / max(1, case.wall_ns)
    if share < PYTHON_SHARE:
        return []
    replayer, ops = case.replayer, case.placed.recording.trace.ops
    between = replayer.host_without(ops=np.flatnonzero(ops.parent < 0))  # what is left lies between ops
    return [
        Proposal(
            rule="python-bound",
            bound="overhead",
            title="Python and the dispatch of small ops take the time of the CPU",
            evidence={
                "between_ops_ns_per_step": between_ns,
                "small_ops_ns_per_step": small_ns,
                "share": round(share, 3),
                "ops_per_step": int(case.placed.recording.items.is_own.sum()) // steps,
            },
            where=case.where(groups),
            cells=[Cell(None, "idle_launch"), *case.cells(groups)],
            low=Change(host=replayer.host - between // 2),
            mid=Change(host=replayer.host - between, duration=case.scaled(dict.fromkeys(groups, 0.5))),
            high=Change(host=replayer.host - between, duration=case.scaled(dict.fromkeys(groups, 0.0))),
            advice="model = torch.compile(model)   # one C++ kernel where there were several ops"
            + ("" if case.is_training else "\nwith torch.inference_mode(): y = model(x)")
            + "\n# or a larger batch: the time between ops does not grow with it",
            assumes="between ops is Python, not a wait for what was not recorded; there is a C++ compiler; the "
            "first call compiles; recording itself lengthens small ops most",
        )
    ]


def few_threads(case: Case) -> list[Proposal]:
    """There are fewer threads than cores that the process may use, and arithmetic takes the time.

    Compute-bound ops get shorter in proportion to the threads: by half, four fifths, all of the ideal.
    """
    facts = None if case.extras is None else case.extras.cpu
    if not case.is_cpu or facts is None or not facts.threads or not facts.physical_cores:
        return []
    threads, cores = facts.threads, facts.physical_cores
    groups = case.groups_where(lambda group: case.placed.placements[group].bound == "compute")
    compute_ns = int(case.exposed[groups].sum()) // max(1, len(case.steps))
    if threads >= cores or compute_ns < COMPUTE_SHARE * case.step_ns:
        return []
    factors = [1 - reach * (1 - threads / cores) for reach in THREADS_REACH]
    low, mid, high = (Change(duration=case.scaled(dict.fromkeys(groups, factor))) for factor in factors)
    return [
        Proposal(
            rule="few-threads",
            bound="compute",
            title="torch uses fewer threads than there are cores",
            evidence={"threads": threads, "physical_cores": cores, "compute_bound_ns_per_step": compute_ns},
            where=case.where(groups),
            cells=case.cells(groups),
            low=low,
            mid=mid,
            high=high,
            advice=f"torch.set_num_threads({cores})   # or OMP_NUM_THREADS={cores} before Python starts",
            assumes="the other cores are free (data loading workers want some), and the ops are large enough to split",
            multiplies=True,
        )
    ]


RULES: Final[tuple[Rule, ...]] = (python_bound, few_threads)
