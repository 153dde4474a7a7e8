from __future__ import annotations

import gzip
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import diagnose
from diagnose.errors import DiagnoseError, UsageError
from diagnose.live import session
from diagnose.recording import recorder


def work() -> torch.Tensor:
    x = torch.ones(32, 32)
    return torch.mm(x, x).relu().sum()


def marks(path: Path) -> list[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        events = json.load(file)["traceEvents"]
    found = [event for event in events if event.get("cat") == "user_annotation"]
    return [event["name"] for event in sorted(found, key=lambda event: event["ts"])]


def test_a_block_gives_a_report() -> None:
    with diagnose.profile() as p:
        work()
    assert p.report is not None
    assert p.error is None
    assert p.report is p.report, "made once"
    assert p.reports == [p.report]
    assert "aten::mm" in {row.op for row in p.report.kernels}
    assert p.report.document.source.kind == "live"


def test_a_saved_recording_reads_back_equal_but_for_its_source(tmp_path: Path) -> None:
    with diagnose.profile() as p:
        work()
    p.save(tmp_path / "a.json.gz")
    p.export_chrome_trace(tmp_path / "b.json")
    again = diagnose.read(tmp_path / "a.json.gz")
    live, read = (json.loads(report.to_json()) for report in (p.report, again))
    assert live.pop("source") != read.pop("source")
    assert live == read
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()) == (tmp_path / "b.json").read_bytes()


def test_start_and_stop() -> None:
    p = diagnose.profile()
    p.start()
    work()
    p.stop()
    p.stop()
    assert p.report is not None
    assert len(p.reports) == 1


def test_steps_of_a_whole_block_are_marked(tmp_path: Path) -> None:
    with diagnose.profile() as p:
        work()
        p.step()
        work()
    p.save(tmp_path / "a.json")
    assert marks(tmp_path / "a.json") == ["diagnose.profile#0", "diagnose.profile#1"]


def test_cycles_give_a_report_each(tmp_path: Path) -> None:
    with diagnose.profile(wait=1, warmup=1, active=2, repeat=2, out=tmp_path / "out") as p:
        for _ in range(9):
            work()
            p.step()
    assert len(p.reports) == 2
    assert p.report is p.reports[-1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rank0.1.json.gz", "rank0.json.gz"]
    assert marks(tmp_path / "out" / "rank0.json.gz") == ["ProfilerStep#2", "ProfilerStep#3"]
    assert marks(tmp_path / "out" / "rank0.1.json.gz") == ["ProfilerStep#6", "ProfilerStep#7"]


def test_only_active_steps_are_recorded(tmp_path: Path) -> None:
    with diagnose.profile(wait=2, active=1) as p:
        for size in (3, 4, 5, 6):
            torch.zeros(size).neg_()
            p.step()
    p.save(tmp_path / "a.json")
    events = json.loads((tmp_path / "a.json").read_text())["traceEvents"]
    shapes = [event["args"]["Input Dims"] for event in events if event.get("name") == "aten::neg_"]
    assert shapes == [[[5]]]


def test_waiting_steps_tell_what_recording_costs(tmp_path: Path) -> None:
    with diagnose.profile(wait=3, active=1) as p:
        for _ in range(4):
            work()
            p.step()
    p.save(tmp_path / "a.json")
    plain = json.loads((tmp_path / "a.json").read_text())["diagnose"]["plain_step_ns"]
    # Without a device to wait for, each of the two after the first; with one, both as a whole.
    assert len(plain) == (1 if torch.cuda.is_available() else 2)
    assert all(0 < each < 1e9 for each in plain)
    assert p.report is not None
    assert p.report.document.recording.step_plain_ns == min(plain)


def test_a_cycle_that_the_loop_cuts_is_kept() -> None:
    with diagnose.profile(wait=1, active=5) as p:
        for _ in range(3):
            work()
            p.step()
    assert len(p.reports) == 1


def test_a_further_cycle_without_a_step_is_not_a_report() -> None:
    with diagnose.profile(active=2, repeat=0) as p:
        for _ in range(4):
            work()
            p.step()
    assert len(p.reports) == 2


def test_a_loop_too_short_to_record_says_so() -> None:
    p = diagnose.profile(wait=1, warmup=2, active=3)
    p.start()
    p.step()
    with pytest.warns(RuntimeWarning, match=r"p\.step\(\) was called 1 times, recording begins after 3"):
        p.stop()
    assert p.report is None
    assert p.reports == []
    assert p.error is not None
    with pytest.raises(DiagnoseError, match="no recording to save: nothing was recorded"):
        p.save("never.json")


def test_a_decorated_function_keeps_its_last_report() -> None:
    @diagnose.profile()
    def double(x: int) -> int:
        """Twice."""
        work()
        return 2 * x

    assert double.report is None
    assert double(3) == 6
    first = double.report
    assert first is not None
    assert double(4) == 8
    assert double.report is not first
    assert (double.__name__, double.__doc__) == ("double", "Twice.")


def test_decorated_methods_and_recursion() -> None:
    class Model:
        @diagnose.profile()
        def forward(self, depth: int) -> int:
            work()
            return 0 if depth == 0 else 1 + self.forward(depth - 1)

    assert Model().forward(2) == 2
    assert Model.forward.report is not None
    assert sum(row.calls for row in Model.forward.report.kernels if row.op == "aten::mm") == 3


def test_coroutines_are_refused_by_the_decorator() -> None:
    async def later() -> None: ...

    with pytest.raises(UsageError, match="decorates plain functions"):
        diagnose.profile()(later)


def test_the_users_exception_passes_and_what_was_recorded_stays() -> None:
    p = diagnose.profile()

    def fail() -> None:
        with p:
            work()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert p.report is not None
    with diagnose.profile() as after:
        work()
    assert after.report is not None


def test_nesting_is_refused_before_anything_starts() -> None:
    with diagnose.profile() as outer:
        with pytest.raises(UsageError, match="cannot be nested"):
            diagnose.profile().start()
        work()
    assert outer.report is not None


def test_inside_torchs_own_profiler_it_is_refused() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        with pytest.raises(UsageError, match=r"on_trace_ready=diagnose\.on_trace_ready"):
            diagnose.profile().start()
        work()
    with diagnose.profile() as p:
        work()
    assert p.report is not None


def test_an_analysis_that_fails_warns_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(session, "read", fail)
    with diagnose.profile() as p:
        work()
    with pytest.warns(RuntimeWarning, match="could not be diagnosed: ZeroDivisionError: a bug of ours"):
        assert p.report is None
    assert p.error is not None
    p.save(tmp_path / "still.json")
    assert marks(tmp_path / "still.json") == ["diagnose.profile#0"]


def test_a_recording_that_cannot_be_saved_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(recorder, "gather", fail)
    p = diagnose.profile(active=1)
    p.start()
    with pytest.warns(RuntimeWarning, match="the recording was lost: disk full"):
        p.step()
    p.step()
    p.stop()
    assert p.report is None


def test_an_unwritable_folder_warns_and_keeps_the_report(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    p = diagnose.profile(out=tmp_path / "file")
    p.start()
    work()
    with pytest.warns(RuntimeWarning, match="cannot write into"):
        p.stop()
    assert p.report is not None


def test_nothing_is_said_when_all_is_well() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with diagnose.profile(wait=1, warmup=1, active=1, repeat=2) as p:
            for _ in range(6):
                work()
                p.step()
    assert len(p.reports) == 2


def test_temporary_files_go_with_the_profile() -> None:
    with diagnose.profile() as p:
        work()
    folder = p._folder
    assert folder is not None
    assert folder.is_dir()
    del p
    assert not folder.exists()


def test_measure_states_what_recording_costs() -> None:
    calls = []

    def fn(a: int, *, b: int) -> None:
        calls.append((a, b))
        work()

    report = diagnose.measure(fn, (1,), {"b": 2}, warmup=2, repeat=3)
    assert calls == [(1, 2)] * 9, "warm-up, plain, recorded, and once more for the source lines"
    cost = report.document.recording
    assert cost.step_plain_ns is not None
    assert cost.step_recorded_ns is not None
    assert len(report.window.steps) == 3


def test_measure_lets_the_functions_exception_pass() -> None:
    def fn() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        diagnose.measure(fn)
    with pytest.raises(UsageError, match="repeat >= 1"):
        diagnose.measure(work, repeat=0)


def test_beside_an_existing_profiler(tmp_path: Path) -> None:
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU],
        schedule=torch.profiler.schedule(wait=0, warmup=0, active=1, repeat=2),
        on_trace_ready=diagnose.on_trace_ready(tmp_path / "out"),
        record_shapes=True,
    ) as prof:
        for _ in range(2):
            torch.cat([work().reshape(1)] * 40)
            prof.step()
    paths = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in paths] == ["rank0.1.json.gz", "rank0.json.gz"]
    report = diagnose.read(paths[0])
    assert report.document.source.kind == "recording"
    kept = json.loads(gzip.decompress(paths[0].read_bytes()))["diagnose"]
    assert [len(one) for one in kept["tensor_lists"]] == [40]


def test_the_rank_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    with diagnose.profile(out=tmp_path):
        work()
    assert (tmp_path / "rank3.json.gz").is_file()


def python(script: str, repo: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=repo)


def test_without_torch_one_clear_line(repo: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; import diagnose; diagnose.profile().start()"
    error = python(script, repo).stderr
    assert error.splitlines()[-1].endswith(
        "recording needs torch, which is not installed: pip install 'torch-diagnose[torch]'"
    )


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.4.1+cu121")
    with pytest.raises(DiagnoseError, match=r"needs torch 2\.11 or newer, this is 2\.4\.1\+cu121"):
        diagnose.profile().start()


def test_nothing_is_printed(repo: Path) -> None:
    script = "import torch, diagnose\nwith diagnose.profile() as p: torch.zeros(3) + 1\np.report"
    done = python(script, repo)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_torch_profiler_inside_costs_the_recording_and_not_the_process() -> None:
    p = diagnose.profile()
    p.start()
    with torch.profiler.profile() as inner:
        torch.ones(4).sum()
    with pytest.warns(RuntimeWarning, match="another torch.profiler"):
        p.stop()
    assert p.report is None
    assert p.error is not None
    assert inner.key_averages()
    with diagnose.profile() as again:
        torch.ones(4).sum()
    assert again.report is not None


def test_a_name_with_quotation_marks_costs_nothing() -> None:
    """Kineto writes them as they are, which is no JSON."""
    with diagnose.profile() as p:
        for name in ('a "quoted" name', '"', 'ends in "quotes"', "plain, then", 'back\\slash and "'):
            with torch.profiler.record_function(name):
                work()
    assert p.report is not None
    found = {row.annotation for row in p.report.document.annotations}
    assert {'a "quoted" name', 'ends in "quotes"', "plain, then"} <= found
