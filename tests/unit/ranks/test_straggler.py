"""The rank that the others wait for: who it is, what it did instead, what the others would gain; in microseconds."""

from __future__ import annotations

from pathlib import Path

import diagnose
from diagnose.ranks import gathering
from diagnose.render.ranks_json import ranks_from_json
from tests.builders import TraceBuilder
from tests.rank_traces import MOVING_US, rank_trace, written

US = 1000
TENSOR = ((1024, 1024), "bfloat16")


def waited_trace(rank: int, arrivals_us: list[list[int]]) -> TraceBuilder:
    """A rank whose host waits for the device at the end of each step, so that a step lasts as long as the slowest rank.

    Args:
        rank: Which.
        arrivals_us: For each step when each rank arrives at its all-reduce, from the step's start [steps][ranks].
    """
    trace, at = TraceBuilder(), 0
    trace.distributed(rank, len(arrivals_us[0]))
    for step, ready in enumerate(arrivals_us):
        mine, together = at + ready[rank], at + max(ready) + MOVING_US
        op = trace.op("aten::mm", at + 2, 6, inputs=[TENSOR, TENSOR])
        first = trace.launch(at + 4, 2, external_id=op)
        trace.kernel("nvjet_tst_64x8", at + 10, ready[rank] - 10, correlation=first, external_id=op)
        trace.collective(
            mine, together - mine, elements=1_000_000, ranks=len(ready), stream=7, correlation=trace.launch(at + 9, 1),
            **{"Process Group Name": "0"},
        )  # fmt: skip
        trace.launch(at + 11, together - at - 11, name="cudaDeviceSynchronize")
        trace.step(step, at, together - at)
        at = together
    return trace


def job(folder: Path, arrivals_us: list[list[int]]) -> diagnose.RanksReport:
    written(folder, {rank: waited_trace(rank, arrivals_us) for rank in range(len(arrivals_us[0]))})
    return diagnose.read_ranks(folder)


def test_the_straggler_is_priced_by_what_another_rank_would_gain(tmp_path):
    report = job(tmp_path, [[400, 600, 5_000, 1_000]] * 3)
    (found,) = report.findings
    assert (found.rule, found.bound, found.evidence["late_rank"]) == ("late-rank", "communication", 2)
    # Rank 1's wait lies in the middle: 4,400 us, of which 4,000 are after rank 3, the next to last, had come.
    assert found.evidence["replayed_rank"] == 1
    assert found.evidence["waited_ns_per_step"] == 4_400 * US
    assert found.evidence["waited_for_it_alone_ns_per_step"] == 4_000 * US
    price = found.recoverable_ns
    assert (price.low, price.mid, price.high) == (4_000 * US, 4_200 * US, 4_400 * US)
    assert found.title == "the others wait for rank 2: more time in aten::mm"
    assert found.where == ["in aten::mm"]
    assert "rank2.json.gz" in found.advice
    assert "DistributedSampler" in found.advice  # it computed more


def test_the_price_is_what_the_job_without_the_straggler_takes(tmp_path):
    with_it = job(tmp_path / "late", [[400, 600, 5_000, 1_000]] * 3)
    without = job(tmp_path / "even", [[400, 600, 1_000, 1_000]] * 3)
    took = [report.reports[1].document.window.wall_ns // 3 for report in (with_it, without)]
    assert with_it.findings[0].recoverable_ns.low == took[0] - took[1]
    assert without.findings[0].recoverable_ns.low == 0  # two come last together: mending one gives nothing for sure


def test_two_equally_late_ranks_promise_nothing_for_sure(tmp_path):
    (found,) = job(tmp_path, [[400, 600, 5_000, 4_999]] * 3).findings
    assert found.recoverable_ns.low <= US
    assert found.recoverable_ns.high == 4_400 * US


def test_ranks_that_hardly_wait_have_nothing_to_mend(tmp_path):
    assert job(tmp_path, [[5_000, 5_001]] * 3).findings == []


def test_a_wait_that_the_hosts_pace_hides_is_worth_nothing(tmp_path):
    # Steps begin every 10 ms by the host, whatever the device does: the collective ends earlier, the step does not.
    written(tmp_path, {rank: rank_trace(rank, [[100, 3_000]] * 3) for rank in range(2)})
    report = diagnose.read_ranks(tmp_path)
    assert "rank 1 is last" in report.verdict
    assert report.findings == []


def test_it_is_in_every_rendering_and_comes_back(tmp_path):
    report = job(tmp_path, [[400, 5_000]] * 3)
    for text in (str(report), report.to_markdown()):
        assert "the others wait for rank 1" in text
        assert "4.60 ms" in text
    assert ranks_from_json(report.to_json()).findings == report.findings


def test_a_recording_that_has_gone_costs_a_note_not_the_report(tmp_path, monkeypatch):
    def gone(*_):
        raise FileNotFoundError("rank0.json.gz")

    monkeypatch.setattr(gathering, "price_straggler", gone)
    report = job(tmp_path, [[400, 5_000]] * 3)
    assert report.findings == []
    assert any("FileNotFoundError" in note for note in report.notes)
    assert "rank 1 is last at 3 of 3" in report.verdict
