"""Why a row is far below its roof, as far as a recording shows it."""

from __future__ import annotations

import math

from diagnose.kernel_names import NameFacts, read_name
from diagnose.limits import Limits
from diagnose.roofs.ceilings import Ceilings
from diagnose.roofs.question import Question
from diagnose.roofs.times import Sides, roof_time
from diagnose.units import format_share


def reasons(question: Question, sides: Sides, ceilings: Ceilings, limits: Limits) -> list[str]:
    """Sentences, the most telling first; none where the recording shows none."""
    facts, evidence = read_name(question.kernel_name), question.evidence
    found = [_parallelism(question, facts, ceilings, limits), _no_tensor_core(question, sides, facts, ceilings, limits)]
    if _is_tensor(sides) and facts.is_tensor_core is not False and evidence.odd_sizes:
        found.append(f"odd sizes: {', '.join(evidence.odd_sizes)}")
    strided = evidence.strided or ("torch's kernel for strided or broadcast tensors" if facts.is_strided else None)
    if strided is not None and not facts.is_gemm:  # products load tiles, which hides most of it
        found.append(f"strided access: {strided}")
    if sides.compute is not None and sides.compute.resource == "special":
        found.append("special functions (exp, tanh...) take longer than its other arithmetic")
    if evidence.shared >= limits.shared_share:
        found.append(f"shares the device: other kernels ran during {format_share(evidence.shared)} of its time")
    found.append(_ramp(question, sides, limits))
    return [reason for reason in found if reason is not None]


def _parallelism(question: Question, facts: NameFacts, ceilings: Ceilings, limits: Limits) -> str | None:
    """Too few blocks to fill the device, or a last wave of them that fills little of it."""
    evidence = question.evidence
    blocks, sms, tiles = evidence.blocks, ceilings.sms, evidence.tiles
    if blocks is None or sms is None or question.kind != "kernel":
        return None
    is_persistent = facts.is_persistent or (tiles is not None and blocks <= sms and tiles > blocks)
    if is_persistent and tiles is not None and tiles <= blocks:
        is_persistent = False  # whatever its name: each of its blocks has a tile at most
    if blocks < limits.blocks_share * sms and not is_persistent:
        return f"too few blocks: {blocks} for {sms} SMs"
    room = blocks if is_persistent else None if evidence.blocks_per_sm is None else sms * evidence.blocks_per_sm
    count = tiles if is_persistent else blocks
    if not room or count is None:
        return None
    waves = count / room
    if 1 - waves / math.ceil(waves) < limits.tail_share:
        return None
    if waves < 1:
        return f"less than one wave: {count} blocks, and the device holds {room}"
    what = f"{waves:.2f} waves of {'tiles' if is_persistent else 'blocks'}"
    return f"partial waves: {what}, the last one not full"


def _is_tensor(sides: Sides) -> bool:
    return sides.compute is not None and sides.compute.resource.startswith("tensor.")


def _no_tensor_core(
    question: Question, sides: Sides, facts: NameFacts, ceilings: Ceilings, limits: Limits
) -> str | None:
    """Vector units did a product that tensor cores could have done, and were what it waited for."""
    if facts.is_tensor_core is not False or sides.compute is None or question.work is None:
        return None
    memory_ns = 0.0 if sides.memory is None else sides.memory.roof
    resource = sides.compute.resource
    if resource == "vector.float32" and facts.arithmetic == "float32" and ceilings.get("tensor.tfloat32") is not None:
        return "no tensor core: TF32 would use them" if sides.compute.roof > memory_ns else None
    vector = ceilings.get("vector.float32")
    if not _is_tensor(sides):
        return None
    count = sum(count for unit, count in question.work.flops or () if unit.startswith("tensor."))
    # Where the vector units would have been as fast as memory, they are not the reason.
    if vector is not None and roof_time(count, vector, limits).roof <= memory_ns:
        return None
    return f"no tensor core, though {resource.partition('.')[2]} allows it"


def _ramp(question: Question, sides: Sides, limits: Limits) -> str | None:
    """So short that starting and ending are a good part of it."""
    floor, duration = sides.floor_ns, question.duration_ns
    roofs = [time.roof for time in (sides.compute, sides.memory) if time is not None]
    if floor is None or duration <= 0 or question.kind == "self" or max(roofs, default=0.0) < floor:
        return None  # at or below the floor it is overhead, which says it all
    if floor < limits.floor_share * duration:
        return None
    return f"short: {floor / 1e3:.2g} of its {duration / 1e3:.2g} us are what a kernel takes that does nothing"
