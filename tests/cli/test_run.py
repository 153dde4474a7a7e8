"""``diagnose run``: scripts unchanged, their arguments and exit status kept, a report however they end."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from diagnose.cli import main
from diagnose.trace.embed import has_unfinished

pytest.importorskip("torch")

MODEL = """
import sys, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
"""
TRAINING = (
    MODEL
    + """
import neighbour
from torch.utils.data import DataLoader, TensorDataset
assert __name__ == "__main__"
optimizer = torch.optim.AdamW(model.parameters())
loader = DataLoader(TensorDataset(torch.randn(160, 64), torch.randint(0, 10, (160,))), batch_size=16)
for number, (x, y) in enumerate(loader):
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    if number == 7 and "fail" in sys.argv: raise ValueError("boom")
    if number == 7 and "interrupt" in sys.argv: raise KeyboardInterrupt
    if number == 7 and "exit" in sys.argv: sys.exit(7)
print("trained with", sys.argv[1:])
"""
)
INFERENCE = (
    MODEL
    + """
from torch.utils.data import DataLoader
with torch.no_grad():
    for x in DataLoader(torch.randn(160, 64), batch_size=16):
        model(x)
"""
)
ONE_PASS = (
    MODEL
    + """
weights = torch.randn(512, 512) @ torch.randn(512, 512)  # loading: before the first module is called
model(torch.randn(8, 64))
"""
)
ENDLESS = (
    MODEL
    + """
import time
end = time.monotonic() + 2
while time.monotonic() < end:
    model(torch.randn(8, 64))
"""
)


@pytest.fixture
def script(tmp_path):
    (tmp_path / "neighbour.py").write_text("x = 1\n")

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return str(path)

    return write


def run_json(capfd, *arguments):
    """Exit status, the report, and what went to stderr."""
    status = main(["run", "--format", "json", *arguments])
    out, err = capfd.readouterr()
    return status, json.loads(out[out.index("{\n") :]), err, out


def ops(report):
    calls = Counter()
    for row in report["kernels"]:
        calls[row["op"]] += row["calls"]
    return calls


def test_a_training_loop_is_found_by_its_optimizer(script, capfd):
    status, report, err, out = run_json(capfd, "--active", "2", script(TRAINING), "--active", "9", "-o", "x")
    assert status == 0
    assert "trained with ['--active', '9', '-o', 'x']" in out  # what follows the script is the script's
    assert "found a loop by its optimizer's steps" in err
    assert len(report["window"]["steps"]) == 2
    assert ops(report)["aten::addmm"] == 4  # two layers in two steps, nothing of the steps before


def test_a_loop_without_an_optimizer_is_found_by_its_loader(script, capfd):
    status, report, err, _ = run_json(capfd, "--warmup", "1", "--active", "2", script(INFERENCE))
    assert status == 0
    assert "found a loop by its loader's batches" in err
    assert len(report["window"]["steps"]) == 2
    assert ops(report)["aten::addmm"] == 4


def test_without_a_loop_everything_from_the_first_module_on_is_recorded(script, capfd):
    status, report, _, _ = run_json(capfd, script(ONE_PASS))
    assert status == 0
    assert ops(report)["aten::addmm"] == 2
    assert "aten::mm" not in ops(report)


def test_a_script_without_a_module_is_recorded_from_its_beginning(script, capfd):
    _, report, _, _ = run_json(capfd, script("import torch\na = torch.randn(64, 64) @ torch.randn(64, 64)\n"))
    assert ops(report)["aten::mm"] == 1


def test_the_window_is_bounded(script, capfd):
    _, report, _, _ = run_json(capfd, "--seconds", "0.3", script(ENDLESS))
    assert 0.1e9 < report["window"]["wall_ns"] < 1.5e9  # the script runs for 2 s


@pytest.mark.parametrize(("ending", "expected"), [("fail", 1), ("interrupt", 130), ("exit", 7)])
def test_the_exit_status_is_kept_and_the_report_is_made(script, capfd, ending, expected):
    status, report, err, _ = run_json(capfd, "--warmup", "1", "--active", "2", script(TRAINING), ending)
    assert status == expected
    assert len(report["window"]["steps"]) == 2
    assert ("ValueError: boom" in err) == (ending == "fail")
    assert "running.py" not in err  # the traceback begins at the script


def test_a_loop_too_short_for_its_recorded_steps_gives_its_beginning(script, capfd):
    status, report, err, _ = run_json(capfd, "--warmup", "50", script(TRAINING))
    assert status == 0
    assert "the loop ended before its recorded steps began" in err
    assert ops(report)["aten::addmm"] >= 2


def test_a_module_is_run_as_python_does(script, tmp_path, capfd, monkeypatch):
    script(TRAINING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    status, report, _, out = run_json(capfd, "--active", "1", "-m", "script", "a")
    assert status == 0
    assert "trained with ['a']" in out
    assert ops(report)["aten::addmm"] == 2


def test_torch_is_left_as_it_was(script, capfd):
    from torch.nn.modules import module
    from torch.optim import optimizer
    from torch.utils.data import dataloader

    before = dataloader._BaseDataLoaderIter.__next__
    run_json(capfd, script(TRAINING))
    assert dataloader._BaseDataLoaderIter.__next__ is before
    assert not optimizer._global_optimizer_post_hooks
    assert not module._global_forward_pre_hooks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run needs a script or -m module"),
        (["nowhere.py"], "nowhere.py: no such file"),
        (["-m", "no.such.module"], "-m no.such.module: no such module"),
        (["--active", "0", "x.py"], "run needs --active of 1 or more"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, message):
    assert main(["run", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("diagnose: ")
    assert message in err
    assert err.count("\n") == 1


def test_torchrun_gives_one_file_a_rank_and_one_page(script, tmp_path):
    out = tmp_path / "out"
    text = TRAINING.replace("import neighbour", "import torch.distributed as dist\ndist.init_process_group('gloo')")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617",
               "-m", "diagnose", "run", "--active", "1", "-o", str(out), script(text)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert sorted(path.name for path in out.iterdir()) == ["rank0.json.gz", "rank1.json.gz"]
    assert ran.stdout.count("Verdict: ") == 1


def test_no_recording_leaves_a_range_of_torchs_open(script, tmp_path):
    """A loop's steps end inside the range that torch records around an optimizer's step."""
    assert main(["run", "--warmup", "1", "--active", "2", "-o", str(tmp_path / "out"), script(TRAINING)]) == 0
    (saved,) = (tmp_path / "out").glob("rank*.json.gz")
    (tmp_path / "trace.json").write_bytes(gzip.decompress(saved.read_bytes()))
    assert not has_unfinished(tmp_path / "trace.json")


def test_a_loop_inside_a_range_goes_on_and_is_reported(script, capfd):
    inside = "".join(f"    {line}\n" for line in TRAINING.splitlines())
    status, report, _, out = run_json(
        capfd, "--warmup", "1", "--active", "2",
        script("import torch\nwith torch.profiler.record_function('everything'):\n" + inside),
    )  # fmt: skip
    assert status == 0
    assert "trained with" in out
    assert ops(report)["aten::addmm"] == 4
