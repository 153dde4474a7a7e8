"""The pieces on a CPU, tiny: each leaves what it says, a failed one costs no other, refused counters are said once."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import advise, compare, cost, count, record, replay, run
from benchmarks.gpu.environment import Deadline, Options, each, facts, write_result
from diagnose.counters.counters import read_counters
from tests.builders import TraceBuilder, launched
from tests.counter_sheets import Sheet

MATRIX = ((8192, 8192), "bfloat16")


def options(out: Path, *only: str, **changes) -> Options:
    return Options(out, "cpu", is_small=True, is_quick=True, only=only or None, **changes)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two workloads recorded and compared."""
    out = tmp_path_factory.mktemp("gpu")
    chosen = options(out, "resnet_eager", "train_fused_fp32", "prefill_graph")
    record.run(chosen)
    compare.run(options(out))
    return out


def test_what_is_recorded_has_times_a_trace_and_the_machine(recorded: Path) -> None:
    found = json.loads((recorded / "record.json").read_text())
    assert found["facts"]["torch"] == torch.__version__
    assert {"date", "python", "device", "device_name", "triton"} <= set(found["facts"])
    assert found["is_small"] is True
    assert found["steps"]["resnet_eager"]["plain_ns"] > 0
    assert found["steps"]["prefill_graph"]["unavailable"] == "needs a GPU"
    assert (recorded / "traces" / "train_fused_fp32.json.gz").stat().st_size > 0


def test_our_flops_are_the_closed_form_and_torchs(recorded: Path) -> None:
    found = json.loads((recorded / "compare.json").read_text())["workloads"]
    for name, families in (("resnet_eager", {"convolution", "matmul"}), ("train_fused_fp32", {"attention", "matmul"})):
        flops = found[name]["flops"]
        assert set(flops) == families
        for values in flops.values():
            assert values["ours"] == values["closed_form"]
    assert (
        found["resnet_eager"]["flops"]["convolution"]["torch_counter"]
        == (found["resnet_eager"]["flops"]["convolution"]["closed_form"])
    )
    assert (recorded / "kernels" / "resnet_eager.csv").read_text().startswith("kernel,op,family")


def test_nothing_names_the_machine_or_its_user(recorded: Path) -> None:
    import getpass
    import socket

    text = "".join(path.read_text() for path in recorded.glob("*.json"))
    assert socket.gethostname() not in text or len(socket.gethostname()) < 4
    assert f"/home/{getpass.getuser()}" not in text
    assert str(recorded) not in text


def gpu_results(out: Path) -> Path:
    """What record and count leave on a GPU, made up: a long product, a long relu, one step."""
    built = TraceBuilder("NVIDIA H100 80GB HBM3")
    built.step(0, 0, 4000)
    launched(built, "aten::mm", [MATRIX, MATRIX], 20, 1500, kernel="nvjet_tst_256x128_64x4", grid=(132, 1, 1))
    launched(built, "aten::relu", [MATRIX], 1600, 120, kernel="relu_kernel", grid=(65536, 1, 1))
    (out / "traces").mkdir(parents=True)
    (out / "counters").mkdir()
    built.write(out / "traces" / "made.json.gz")
    sheet = Sheet()
    size = 8192 * 8192 * 2
    sheet.kernel(
        "nvjet_tst_256x128_64x4", read=3 * size, written=size, l2=9 * size, sm=95.0, memory=40.0, grid=(132, 1, 1)
    )
    sheet.kernel("relu_kernel", read=size, written=size, l2=2 * size, sm=10.0, memory=92.0, grid=(65536, 1, 1))
    (out / "counters" / "made.csv").write_text(sheet.raw())
    row = {
        "trace": "made.json.gz", "plain_ns": 4e6, "closed_form_flops": {"matmul": 2 * 8192**3},
        "closed_form_bytes": None, "built_to_be": None,
    }  # fmt: skip
    machine = {"device": "cuda:0", "device_name": "made up", "date": "2026-01-01", "python": "3", "torch": "2"}
    (out / "record.json").write_text(json.dumps({"facts": machine, "is_small": False, "steps": {"made": row}}))
    return out


def test_counters_are_compared_by_family_and_by_time(tmp_path: Path) -> None:
    found = compare.run(options(gpu_results(tmp_path)))["made"]
    assert found["notes"] == ["2 of 2 kernels joined"]
    # relu moved what its formula says; the product read one input twice: 3 matrices of 4.
    assert found["bytes"]["pointwise"]["worst"] == 0
    assert found["bytes"]["matmul"]["worst"] == pytest.approx(0.25)
    (miss,) = found["byte_misses"]
    assert miss["op"] == "aten::mm"
    assert miss["why"] == "read more than once: the L2 did not hold it"
    assert found["agreed_share"] == 1.0
    assert found["judged_ns"] == 1_620_000
    assert found["flops"]["matmul"]["ours"] == 2 * 8192**3


def test_a_disagreement_is_listed_with_both_sides(tmp_path: Path) -> None:
    out = gpu_results(tmp_path)
    text = (out / "counters" / "made.csv").read_text()
    (out / "counters" / "made.csv").write_text(text.replace('"95.0","40.0"', '"40.0","95.0"'))
    found = compare.run(options(out))["made"]
    assert found["agreed_share"] == pytest.approx(120 / 1620)
    (miss,) = found["disagreements"]
    assert (miss["op"], miss["bound"], miss["theirs"]) == ("aten::mm", "compute", "memory")


def fake_ncu(folder: Path, body: str) -> str:
    path = folder / "ncu"
    path.write_text(f"#!{sys.executable}\nimport sys\nlog = sys.argv[sys.argv.index('--log-file') + 1]\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_counting_leaves_a_table_that_can_be_read_and_names_no_host(tmp_path: Path) -> None:
    sheet = Sheet()
    sheet.kernel("k<1, 2>", read=10, written=20)
    ncu = fake_ncu(tmp_path, f"open(log, 'w').write({sheet.raw()!r})")
    (tmp_path / "counters").mkdir()
    row = count.count_one(ncu, "vit_eager", options(tmp_path))
    assert row == {"kernels": 1}
    path = tmp_path / "counters" / "vit_eager.csv"
    assert read_counters(path).dram_bytes().tolist() == [30]
    assert "python3.12" not in path.read_text()
    assert "127.0.0.1" not in path.read_text()


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts of a GPU without one."""
    properties = SimpleNamespace(name="made up", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


@pytest.mark.usefixtures("on_a_gpu")
def test_refused_counters_are_said_and_end_the_counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ncu = fake_ncu(tmp_path, "print('==ERROR== ERR_NVGPUCTRPERM - no permission', file=sys.stderr); sys.exit(1)")
    (tmp_path / "counters").mkdir()
    with pytest.raises(count.RefusedError, match="ERR_NVGPUCTRPERM"):
        count.count_one(ncu, "vit_eager", options(tmp_path))
    asked = []
    monkeypatch.setattr(count, "find_ncu", lambda: ncu)
    one = count.count_one
    monkeypatch.setattr(count, "count_one", lambda ncu, name, given: [asked.append(name), one(ncu, name, given)][1])
    rows = count.run(Options(tmp_path, "cuda:0", is_small=True, only=("vit_eager", "dit_eager")))
    assert asked == ["vit_eager"]
    assert all("refused" in row["unavailable"] for row in rows.values())
    assert "refused" in json.loads((tmp_path / "count.json").read_text())["refused"]


def test_the_tool_leaves_caches_and_clocks_alone(tmp_path: Path) -> None:
    told = count.command("ncu", "vit_eager", options(tmp_path), tmp_path / "x.csv")
    for flag, value in (("--cache-control", "none"), ("--clock-control", "none"), ("--profile-from-start", "off")):
        assert told[told.index(flag) + 1] == value
    assert "dram__bytes_read.sum" in told[told.index("--metrics") + 1]
    assert told[-6:] == ["-m", "benchmarks.gpu.mark", "vit_eager", "--device", "cpu", "--small"]


def test_on_a_cpu_the_marked_step_is_run(tmp_path: Path) -> None:
    rows = count.run(options(tmp_path, "gqa_decode_eager"))
    assert rows["gqa_decode_eager"]["ran"] is True
    assert "a GPU's" in rows["gqa_decode_eager"]["unavailable"]


def test_a_change_is_measured_and_has_a_prediction_or_none_yet(tmp_path: Path) -> None:
    rows = advise.run(options(tmp_path, "fused_attention", "graphed_decode"))
    row = rows["fused_attention"]
    assert row["gained_ns"] == row["before_ns"] - row["after_ns"]
    assert row["prediction"] == "no prediction yet" or isinstance(row["prediction"], dict)
    assert rows["graphed_decode"]["unavailable"] == "needs a GPU"


def test_the_largest_fitting_finding_is_the_prediction() -> None:
    def finding(rule: str, mid: int):
        return SimpleNamespace(rule=rule, recoverable_ns=SimpleNamespace(low=0, mid=mid, high=2 * mid))

    found = [finding("launch_graph", 5), finding("unfused_attention", 7), finding("long_attention", 9)]
    assert advise.of_findings(found, ("attention",)) == {
        "rule": "long_attention", "low_ns": 0, "mid_ns": 9, "high_ns": 18,
    }  # fmt: skip
    assert advise.of_findings(found, ("tf32",)) is None
    assert advise.of_what_if(SimpleNamespace(), {"batch": 8}) is None
    answered = advise.of_what_if(SimpleNamespace(what_if=lambda **asked: asked), {"batch": 8})
    assert answered == {"what_if": {"batch": 8}, "answer": "{'batch': 8}"}
    failed = advise.of_what_if(SimpleNamespace(what_if=lambda: None), {"batch": 8})
    assert failed is not None
    assert failed["error"].startswith("TypeError")


def test_a_delayed_host_is_measured_and_predicted(tmp_path: Path) -> None:
    row = replay.run(options(tmp_path, "host_delayed_launch_bound"))["host_delayed_launch_bound"]
    assert row["measured_change_ns"] == row["after_ns"] - row["before_ns"]
    if "predicted_change_ns" in row:
        # Twenty calls of 20 us more each, on one thread: a replay can say nothing else.
        assert row["predicted_change_ns"] == pytest.approx(400_000, rel=0.02)
    else:
        assert row["no_prediction"]


def test_what_recording_costs_is_measured_against_torchs_profiler(tmp_path: Path) -> None:
    row = cost.run(options(tmp_path, "kernel_gemm_float32"))["kernel_gemm_float32"]
    for key in ("plain_ns", "torch_profiler_step_ns", "diagnose_step_ns", "torch_profiler_exit_ns", "diagnose_exit_ns"):
        assert row[key] > 0
    assert row["more_than_torch_profiler"] == pytest.approx(row["diagnose_step_ns"] / row["torch_profiler_step_ns"] - 1)


def test_a_workload_that_fails_costs_no_other_and_time_runs_out(tmp_path: Path) -> None:
    def one(name: str) -> dict:
        if name == "bad":
            raise RuntimeError("no such kernel")
        return {"value": 1}

    kept = []
    rows = each(["bad", "good"], options(tmp_path), one, lambda rows: kept.append(len(rows)))
    assert rows["bad"]["error"] == "RuntimeError: no such kernel"
    assert rows["good"]["value"] == 1
    assert kept == [1, 2]
    late = each(["good"], options(tmp_path, seconds=0.0), one, lambda _: None)
    assert late["good"] == {"skipped": "not reached within 0 s"}


def test_a_run_goes_on_where_the_last_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def one(name: str, *_: object, **__: object) -> dict:
        asked.append(name)
        return {"error": "once"} if asked == ["dit_eager"] else {"plain_ns": 1}

    monkeypatch.setattr(record, "record_one", one)
    for names in (["dit_eager"], ["dit_eager"], ["dit_eager", "vit_eager"]):
        rows = record.run(options(tmp_path, *names))
    # A failure is tried again, what is done is not, and nothing of an earlier run is lost.
    assert asked == ["dit_eager", "dit_eager", "vit_eager"]
    assert set(rows) == {"dit_eager", "vit_eager"}
    (tmp_path / "record.json").write_text("{")
    record.run(options(tmp_path, "vit_eager"))
    assert asked[-1] == "vit_eager"


def test_a_deadline_by_its_clock() -> None:
    now = [0.0]
    deadline = Deadline(10, lambda: now[0])
    assert (deadline.left, deadline.is_over) == (10, False)
    now[0] = 11
    assert (deadline.left, deadline.is_over) == (0, True)


def test_a_failed_piece_and_a_slow_one_stop_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {
        "tests": "import sys; print('broken'); sys.exit(3)", "record": "import time; time.sleep(30)",
        "cost": "print('fine')",
    }  # fmt: skip
    monkeypatch.setattr(run, "command", lambda piece, _: [sys.executable, "-c", programs[piece]])
    found = run.run(["tests", "record", "cost"], options(tmp_path), limit_s=2)
    assert [each["outcome"] for each in found.values()] == ["failed (3)", "took too long", "ok"]
    assert (tmp_path / "tests.log").read_text() == "broken\n"
    assert json.loads((tmp_path / "summary.json").read_text())["pieces"].keys() == found.keys()
    assert (tmp_path / "results.tar").stat().st_size > 0


def test_every_piece_has_a_command(tmp_path: Path) -> None:
    for piece in run.PIECES[1:]:
        told = run.command(piece, options(tmp_path, "vit_eager"))
        assert told[1:3] == ["-m", f"benchmarks.gpu.{piece}"]
        assert (Path(run.__file__).parent / f"{piece}.py").is_file()
    assert "tests/gpu" in run.command("tests", options(tmp_path))


def test_a_name_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no such name: nothing"):
        record.run(options(tmp_path, "nothing"))


def test_recording_and_counting_need_torch_alone(tmp_path: Path) -> None:
    """On a machine without msgspec a bare trace is kept, and the package can read it elsewhere."""
    blocked = (
        "import importlib.util as u, sys\n"
        "real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('msgspec', 'isal') else real(name, *a)\n"
        "sys.modules['msgspec'] = sys.modules['isal'] = None\n"
        "from benchmarks.gpu import count, record\n"
        "from benchmarks.gpu.environment import Options\n"
        "from pathlib import Path\n"
        f"record.run(Options(Path({str(tmp_path)!r}), 'cpu', is_small=True, only=('gqa_decode_eager',)))\n"
    )
    done = subprocess.run([sys.executable, "-c", blocked], cwd=run.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "record.json").read_text())["how"] == "torch.profiler alone"
    found = compare.run(options(tmp_path))["gqa_decode_eager"]
    values = found["flops"]["attention"]
    assert values["ours"] == values["closed_form"]


def test_facts_stand_in_every_result(tmp_path: Path) -> None:
    path = write_result(options(tmp_path), "some", {"value": 1})
    assert json.loads(path.read_text())["facts"] == facts("cpu")
