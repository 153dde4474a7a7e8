"""``@pytest.mark.diagnose``: a step's budget as a test, off unless asked for."""

import pytest

pytest.importorskip("torch")
pytest_plugins = ["pytester"]

TEST = """
import pytest, torch, time

runs = []

def step():
    runs.append(1)
    time.sleep(0.02)
    torch.randn(64, 64) @ torch.randn(64, 64)

@pytest.mark.diagnose({budget})
def test_step(diagnose_step):
    diagnose_step(step, warmup=1, repeat=2)
    print("runs", len(runs))
"""


@pytest.fixture
def ran(pytester):
    def run(budget, *options):
        pytester.makepyfile(TEST.replace("{budget}", budget))
        return pytester.runpytest(
            "-p", "no:diagnose", "-p", "diagnose.integrations.pytest_plugin", "-p", "no:cacheprovider",
            "--strict-markers", "-s", *options,
        )  # fmt: skip

    return run


def test_off_unless_asked_for(ran):
    result = ran("step_time='1 ns'")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*runs 1*"])


def test_a_step_within_its_budget_passes(ran):
    ran("step_time='20 s', idle='100%', launches=1000", "--diagnose").assert_outcomes(passed=1)


def test_a_step_beyond_its_budget_fails_with_the_report(ran):
    result = ran("step_time='1 ms', idle='10%'", "--diagnose")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["step_time is * ms, its budget is 1 ms", "idle is * %, its budget is 10%", "Verdict:*"]
    )


@pytest.mark.parametrize(
    ("budget", "message"),
    [("speed='1 ms'", "*there is no 'speed'*"), ("step_time='fast'", "*step_time='fast' is no budget*")],
)
def test_a_budget_that_makes_no_sense_is_said(ran, budget, message):
    result = ran(budget, "--diagnose")
    assert result.ret != 0
    result.stdout.fnmatch_lines([message])
