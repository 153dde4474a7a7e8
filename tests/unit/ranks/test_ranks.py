"""Many ranks: found, joined, and the one that the others wait for named."""

import json
import os
import shutil
import subprocess
import sys

import jsonschema
import numpy as np
import pytest

import diagnose
from diagnose.errors import TraceError, UsageError
from diagnose.ranks import gathering as ranks
from diagnose.render.ranks_json import ranks_from_json, ranks_json_schema_text
from tests.builders import TraceBuilder, launched
from tests.conftest import REPO
from tests.rank_traces import MOVING_US, rank_trace, written

ARRIVALS = [[100, 300, 900, 250], [120, 350, 800, 200], [110, 900, 850, 300]]
US = 1000


def job(folder, arrivals=ARRIVALS, ranks_=None, **options):
    present = range(len(arrivals[0])) if ranks_ is None else ranks_
    return written(folder, {rank: rank_trace(rank, arrivals, **options) for rank in present})


def test_waiting_and_moving_are_told_apart(tmp_path):
    job(tmp_path)
    report = diagnose.read_ranks(tmp_path)
    waited = [
        [max(ready) * US - at * US for at in ready] for ready in ARRIVALS
    ]  # from the literal arrivals, not from the program
    assert [row.wait_ns for row in report.collectives] == waited
    assert all(row.move_ns == [MOVING_US * US] * 4 for row in report.collectives)
    assert [row.last_rank for row in report.collectives] == [2, 2, 1]
    assert [row.waiting_ns for row in report.table] == np.array(waited).sum(axis=0).tolist()
    assert [row.last_count for row in report.table] == [0, 1, 2, 0]
    assert [row.step for row in report.collectives] == [f"ProfilerStep#{step}" for step in range(3)]
    assert all(row.is_complete and row.wait_high_ns == row.wait_ns for row in report.collectives)


def test_the_straggler_is_named_with_what_it_computed_instead(tmp_path):
    job(tmp_path, [[100, 100, 5_000, 100]] * 3)
    report = diagnose.read_ranks(tmp_path)
    assert "rank 2 is last at 3 of 3 collectives" in report.verdict
    assert "more in aten::mm" in report.verdict
    first = report.collectives[0].instead[0]
    assert (first.part, first.name, first.more_ns) == (None, "aten::mm", 4_900 * US)
    assert report.imbalance.rank == 2
    work = [75, 75, 4_975, 75]
    assert report.imbalance.max_over_mean == pytest.approx(max(work) / (sum(work) / 4))


def test_a_straggler_whose_host_was_late_is_told_from_one_that_computes(tmp_path):
    job(tmp_path, [[100, 3_000]] * 3, is_late_by_host=True)
    report = diagnose.read_ranks(tmp_path)
    cause = report.collectives[1].instead[0]
    assert cause.part == "idle_launch"
    assert "idle, host in Python" in report.verdict


def test_even_ranks_hardly_wait(tmp_path):
    job(tmp_path, [[5_000, 5_001]] * 3)
    assert "hardly wait" in diagnose.read_ranks(tmp_path).verdict


def test_missing_ranks_make_the_wait_an_interval(tmp_path):
    job(tmp_path, ranks_=[0, 2])
    report = diagnose.read_ranks(tmp_path)
    assert any("2 of 4 ranks are missing (1, 3)" in note for note in report.notes)
    # Rank 1, which is missing, came last in the third step: rank 2's wait is at least none, at most all of its stay.
    row = report.collectives[2]
    assert (row.wait_ns[1], row.wait_high_ns[1], row.is_complete) == (0, (900 + MOVING_US - 850) * US, False)
    assert "at least" in report.verdict
    assert ".." in str(report)


def test_a_clock_that_is_ahead_is_corrected_and_stated(tmp_path):
    written(tmp_path, {rank: rank_trace(rank, ARRIVALS, ahead_us=7_000_000 * rank) for rank in range(4)})
    report = diagnose.read_ranks(tmp_path)
    assert [row.offset_ns for row in report.offsets] == [7_000_000_000 * rank for rank in range(4)]
    assert [row.last_rank for row in report.collectives] == [2, 2, 1]
    assert report.collectives[0].wait_ns == [800 * US, 600 * US, 0, 650 * US]
    assert any("clocks are ahead" in note for note in report.notes)


def test_a_recording_that_began_one_step_later_is_joined_where_both_recorded(tmp_path):
    traces = {0: rank_trace(0, ARRIVALS), 1: rank_trace(1, ARRIVALS)}
    traces[1].events = [event for event in traces[1].events if float(event["ts"]) >= traces[1].epoch_us + 10_000]
    written(tmp_path, traces)
    report = diagnose.read_ranks(tmp_path)
    assert [row.step for row in report.collectives] == ["ProfilerStep#1", "ProfilerStep#2"]
    assert any("without a partner" in note for note in report.notes)


def test_without_marks_order_and_size_join(tmp_path):
    traces = {0: rank_trace(0, ARRIVALS), 1: rank_trace(1, ARRIVALS)}
    for trace in traces.values():
        trace.events = [event for event in trace.events if event["cat"] != "user_annotation"]
    del traces[1].events[:4]  # its first step: op, launch, kernel, collective's launch
    traces[1].events = [event for event in traces[1].events if float(event["ts"]) >= traces[1].epoch_us + 9_000]
    written(tmp_path, traces)
    report = diagnose.read_ranks(tmp_path)
    assert [row.step for row in report.collectives] == [None, None]
    assert [row.wait_ns[0] for row in report.collectives] == [230 * US, 790 * US]  # of ranks 0 and 1 alone


def test_recordings_that_lost_events_are_joined_by_time(tmp_path):
    traces = {}
    for rank, kept in ((0, (0, 1, 3)), (1, (1, 2, 3))):
        trace = rank_trace(rank, [[100, 100]], group=None)
        trace.events.pop()
        for index in kept:
            at = 1_000 * (index + 1) + 100 * rank
            trace.collective(at, 1_000 * (index + 1) + 300 - at, elements=500, ranks=2, correlation=trace.launch(50, 3))
        traces[rank] = trace
    written(tmp_path, traces)
    report = diagnose.read_ranks(tmp_path)
    assert [row.wait_ns for row in report.collectives] == [[100 * US, 0]] * 2  # the second and the fourth


def test_process_groups_are_joined_apart(tmp_path):
    traces = {rank: rank_trace(rank, [[100, 200]]) for rank in range(2)}
    for rank, trace in traces.items():
        # Both orders of two groups' collectives: by count alone they would be crossed.
        for group, at in (("a", 2_000), ("b", 3_000)) if rank == 0 else (("b", 2_500), ("a", 2_700)):
            named = {"Process Group Name": group}
            stream = 30 if group == "a" else 31
            trace.collective(
                at, 4_000 - at, elements=77, ranks=2, stream=stream, correlation=trace.launch(60, 3), **named
            )
    written(tmp_path, traces)
    rows = {row.group: row for row in diagnose.read_ranks(tmp_path).collectives}
    assert rows["a"].wait_ns == [700 * US, 0]
    assert rows["b"].wait_ns == [0, 500 * US]


def test_sends_and_receives_are_not_joined(tmp_path):
    kind = {"kind": "send", "name": "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"}
    job(tmp_path, [[100, 200]], **kind)
    report = diagnose.read_ranks(tmp_path)
    assert report.collectives == []
    assert any("2 sends and receives" in note for note in report.notes)


# ---- Which rank is which


def test_the_same_rank_twice_is_said_and_the_first_is_used(tmp_path):
    job(tmp_path)
    shutil.copy(tmp_path / "rank1.json.gz", tmp_path / "rank1.1.json.gz")
    report = diagnose.read_ranks(tmp_path)
    assert [row.rank for row in report.table] == [0, 1, 2, 3]
    assert any("rank 1 was given twice: rank1.json.gz is used, rank1.1.json.gz is left out" in n for n in report.notes)


def test_names_tell_the_rank_where_the_header_does_not(tmp_path):
    traces = {rank: rank_trace(rank, [[100, 200]]) for rank in range(2)}
    for trace in traces.values():
        del trace.top["distributedInfo"]
    written(tmp_path, traces, "worker_r{}.json")
    report = diagnose.read_ranks(tmp_path)
    assert [row.rank for row in report.table] == [0, 1]
    assert [row.process_rank for row in report.reports[1].kernels] == [1] * len(report.reports[1].kernels)
    assert any("how many ranks" in note for note in report.notes)


def test_the_header_wins_over_the_name_and_it_is_said(tmp_path):
    written(tmp_path, {rank: rank_trace(1 - rank, [[100, 200]]) for rank in range(2)})
    report = diagnose.read_ranks(tmp_path)
    assert report.table[0].source.endswith("rank1.json.gz")
    assert any("the header is believed" in note for note in report.notes)


def test_headers_that_are_all_alike_give_way_to_names(tmp_path):
    traces = {rank: rank_trace(rank, [[100, 200]]) for rank in range(2)}
    for trace in traces.values():
        trace.top["distributedInfo"]["rank"] = 0
    written(tmp_path, traces)
    report = diagnose.read_ranks(tmp_path)
    assert [row.rank for row in report.table] == [0, 1]
    assert any("taken from the files' names" in note for note in report.notes)


def test_one_rank_and_no_collective_are_said(tmp_path):
    trace = TraceBuilder()
    launched(trace, "aten::relu", [((64,), "float32")], 100, 30)
    report = diagnose.read_ranks(trace.write(tmp_path / "rank0.json"))
    assert "nothing says who waited" in report.verdict
    assert any("no collective was recorded" in note for note in report.notes)
    assert report.imbalance.max_over_mean is None


def test_what_is_no_trace_is_an_error(tmp_path):
    job(tmp_path)
    (tmp_path / "rank9.json").write_text("{}")
    with pytest.raises(TraceError, match="rank9"):
        diagnose.read_ranks(tmp_path)


# ---- Where it runs


def test_processes_give_what_one_after_the_other_gives(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "diagnose.costs.own", raising=False)
    paths = job(tmp_path)
    alone = diagnose.read_ranks(paths)
    monkeypatch.setattr(ranks, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert diagnose.read_ranks(paths).document == alone.document


def test_a_script_without_a_main_guard_is_not_run_again_by_the_processes(tmp_path):
    job(tmp_path / "out")
    script = tmp_path / "script.py"
    script.write_text(
        "print('training')\n"
        "import os; os.sched_getaffinity = lambda _: {0, 1}\n"
        "from diagnose import ranks; ranks._WORTH_PROCESSES = 0\n"
        "import diagnose; print(len(diagnose.read_ranks('out').table), __file__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["training", "4", str(script)]


def test_formulas_of_the_users_own_keep_the_work_in_this_process(tmp_path, monkeypatch):
    import diagnose.costs.own

    paths = job(tmp_path)
    monkeypatch.setattr(ranks, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr(ranks, "ProcessPoolExecutor", None)  # not even asked for
    assert len(diagnose.read_ranks(paths).table) == 4


def test_without_processes_it_still_works(tmp_path, monkeypatch):
    paths = job(tmp_path)

    def refuse(*_, **__):
        asked.append(True)
        raise OSError("no processes in this sandbox")

    asked = []
    monkeypatch.delitem(sys.modules, "diagnose.costs.own", raising=False)
    monkeypatch.setattr(ranks, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(ranks, "ProcessPoolExecutor", refuse)
    assert len(diagnose.read_ranks(paths).table) == 4
    assert asked


def test_a_dask_cluster_gives_the_same(tmp_path):
    distributed = pytest.importorskip("distributed")
    paths = job(tmp_path, ARRIVALS[:1])
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        by_client = diagnose.read_ranks(paths, dask=client)
        by_address = diagnose.read_ranks(paths, dask=cluster.scheduler_address)
    assert by_client.document == by_address.document == diagnose.read_ranks(paths).document


def test_options_reach_every_rank(tmp_path):
    job(tmp_path)
    report = diagnose.read_ranks(tmp_path, step=1)
    assert [len(one.window.steps) for one in report.reports.values()] == [1] * 4
    assert len(report.collectives) == 1
    with pytest.raises(UsageError, match="--step 9"):
        diagnose.read_ranks(tmp_path, step=9)


# ---- How it is shown


def test_the_text_fits_a_screen(tmp_path):
    job(tmp_path)
    lines = str(diagnose.read_ranks(tmp_path)).splitlines()
    assert lines[0].startswith("Ranks:")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.startswith("   ") and line.endswith(" of 3")] == [
        "0",
        "1",
        "2",
        "3",
    ]


def test_a_job_of_hundreds_still_fits_a_screen(tmp_path):
    job(tmp_path, [[100 + rank for rank in range(40)]])
    lines = str(diagnose.read_ranks(tmp_path)).splitlines()
    assert len(lines) <= 40
    assert "24 more ranks" in "\n".join(lines)


def test_json_comes_back_equal_and_fits_its_schema(tmp_path):
    job(tmp_path)
    report = diagnose.read_ranks(tmp_path)
    assert ranks_from_json(report.to_json()) == report.document
    schema = json.loads((REPO / "diagnose" / "ranks.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(report.to_json()))
    with pytest.raises(TraceError, match="schema_version 7"):
        ranks_from_json(b'{"schema_version": 7}')
    with pytest.raises(TraceError, match="not a report over ranks"):
        ranks_from_json(b"[]")


def test_the_committed_schema_is_the_generated_one():
    assert (REPO / "diagnose" / "ranks.schema.json").read_text() == ranks_json_schema_text()


def test_hostile_names_stay_names(tmp_path):
    job(tmp_path, [[100, 200]], **{"Process Group Name": "<b>|`\x1b[31m"})
    report = diagnose.read_ranks(tmp_path)
    assert "\x1b" not in str(report)
    markdown = report.to_markdown()
    assert "<b>" not in markdown
    table = [line for line in markdown.splitlines() if line.startswith("| all")]
    assert len(table) == 1
    assert table[0].replace("\\|", "").count("|") == 10
