"""What holds for every kernel on every device."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from diagnose.devices.datasheet import DEVICES
from diagnose.roofs.ceilings import Ceilings, from_spec
from diagnose.roofs.roofline import LIMITS, Evidence, Kind, Question, Reuse, place
from diagnose.work import Work, flops_of

CEILINGS = [from_spec("cuda:0", spec) for spec in DEVICES]
RESOURCES = ("tensor.bfloat16", "tensor.float16", "tensor.float32", "tensor.float8", "vector.float32", "special")

devices = st.sampled_from(CEILINGS)
counts = st.integers(0, 10**13)
sizes = st.integers(0, 10**11)
works = st.builds(
    lambda flops, read, written: Work(flops_of(flops), read, written),
    st.dictionaries(st.sampled_from(RESOURCES), counts, max_size=3),
    sizes,
    sizes,
)
partial_works = st.builds(
    Work, st.none() | st.just(()) | st.just((("tensor.bfloat16", 10**9),)), st.none() | sizes, st.none() | sizes
)
durations = st.floats(1.0, 1e10)
quick = settings(max_examples=50, deadline=None)


@quick
@given(works | partial_works, durations, devices, st.none() | st.integers(1, 10**6))
def test_a_placement_never_contradicts_itself(what: Work, duration_ns: float, ceilings: Ceilings, blocks: int | None):
    placement = place(Question("kernel", what, duration_ns, evidence=Evidence(blocks)), ceilings)
    if placement.efficiency is not None:
        assert placement.efficiency == pytest.approx(placement.roof_ns / duration_ns)
    if "above-roof" in placement.flags:
        assert not placement.is_believed
        assert placement.bound is None
    if "uncosted" in placement.flags:
        assert not placement.is_believed
    if what.flops is None:
        assert placement.bound != "compute"
    assert ("under-used" in placement.flags) <= (
        placement.efficiency < LIMITS.under_used if placement.efficiency else True
    )
    assert len(set(placement.flags)) == len(placement.flags)


@quick
@given(works, durations, devices)
def test_the_bound_is_the_largest_of_the_three(what: Work, duration_ns: float, ceilings: Ceilings):
    placement = place(Question("kernel", what, duration_ns), ceilings)
    cached = {"cache-resident", "maybe-cached"} & set(placement.flags)
    if placement.bound is None or cached or not what.bytes_accessed:
        return
    times = {"compute": placement.compute_ns, "memory": placement.memory_ns, "overhead": placement.floor_ns}
    known = {kind: time for kind, time in times.items() if time is not None}
    assert known[placement.bound] == pytest.approx(max(known.values()))
    assert placement.roof_ns == pytest.approx(max(known.values()))


@quick
@given(st.integers(10**8, 10**10), devices)
def test_twice_the_bytes_take_twice_the_time_at_the_roof(count: int, ceilings: Ceilings):
    if ceilings.get("dram") is None:
        return
    once = place(Question("kernel", Work((), count, 0), 1e12), ceilings)
    twice = place(Question("kernel", Work((), 2 * count, 0), 1e12), ceilings)
    assert once.bound == twice.bound == "memory"
    assert twice.memory_ns == pytest.approx(2 * once.memory_ns)


@quick
@given(works, works, devices)
def test_more_work_never_has_a_lower_roof(some: Work, more: Work, ceilings: Ceilings):
    # Long enough that neither is above its roof, so that no cache comes in.
    roof = place(Question("kernel", some, 1e13), ceilings).roof_ns or 0
    assert (place(Question("kernel", some + more, 1e13), ceilings).roof_ns or 0) >= roof * (1 - 1e-12)


@quick
@given(works, durations, devices, st.floats(1.0, 100.0))
def test_what_is_believed_stays_believed_when_it_takes_longer(
    what: Work, duration_ns: float, ceilings: Ceilings, factor: float
):
    question = Question("kernel", what, duration_ns)
    if place(question, ceilings).is_believed:
        assert place(replace(question, duration_ns=duration_ns * factor), ceilings).is_believed


@quick
@given(works | partial_works | st.none(), durations, devices, st.sampled_from(["collective", "peer_copy", "host_copy"]))
def test_communication_is_communication_whatever_its_work(
    what: Work, duration_ns: float, ceilings: Ceilings, kind: Kind
):
    assert place(Question(kind, what, duration_ns), ceilings).bound == "communication"


@quick
@given(st.text(max_size=60), works, durations)
def test_no_name_makes_it_raise(name: str, what: Work, duration_ns: float):
    for ceilings in (CEILINGS[0], CEILINGS[-1], None):
        place(Question("kernel", what, duration_ns, name), ceilings)


reuses = st.none() | st.builds(lambda count: Reuse(count, "before"), sizes)


@quick
@given(sizes, sizes, durations, devices, reuses)
def test_no_cache_explains_more_bytes_than_it_holds(
    read: int, written: int, duration_ns: float, ceilings: Ceilings, reuse: Reuse | None
):
    dram = ceilings.get("dram")
    placement = place(Question("kernel", Work((), read, written), duration_ns, reuse=reuse), ceilings)
    if dram is None or not placement.is_believed:
        return
    size = LIMITS.largest_cache_bytes if ceilings.l2_bytes is None else ceilings.l2_bytes
    fastest = max(dram.datasheet or 0.0, dram.achievable)
    assert max(0, read + written - size) / fastest <= LIMITS.accepted * duration_ns / 1e9 * (1 + 1e-9)


@quick
@given(sizes, sizes, durations, devices, st.integers(0, 10**11), st.integers(0, 10**11))
def test_more_in_the_cache_never_makes_a_kernel_less_believable(
    read: int, written: int, duration_ns: float, ceilings: Ceilings, some: int, more: int
):
    def believed(count: int) -> bool:
        question = Question("kernel", Work((), read, written), duration_ns, reuse=Reuse(count, "before"))
        return place(question, ceilings).is_believed

    assert believed(some) <= believed(some + more)
