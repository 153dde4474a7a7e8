"""A saved recording read back is the live report: what the file lost is kept in its own key."""

from __future__ import annotations

import json

import pytest

import diagnose
from diagnose.trace.extras import EXTRAS_KEY

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A training step with a fused optimizer over 40 parameters: more than Kineto writes of a list."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(24, 24) for _ in range(20)))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x = torch.randn(8, 24)

    def step():
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    with diagnose.profile() as p:
        step()
    path = tmp_path_factory.mktemp("recording") / "step.json"
    p.save(path)
    return p.report, path


def fused_row(report):
    (row,) = [row for row in report.kernels if row.kernel == "aten::_fused_adamw_"]
    return row


def test_reading_it_back_gives_an_equal_report(recording):
    live, path = recording
    again = diagnose.read(path)
    assert again == live
    assert (live.document.source.kind, again.document.source.kind) == ("live", "recording")


def test_the_optimizers_work_is_known(recording):
    live, _ = recording
    row = fused_row(live)
    # Parameters, gradients and two moments of 20 layers, float32; each parameter also has a step count.
    tensors = 20 * (24 * 24 + 24)
    assert row.bytes_read is not None
    assert row.bytes_read >= 4 * 4 * tensors
    assert row.bytes_written is not None
    assert row.bytes_written >= 3 * 4 * tensors
    assert row.signature is not None
    assert row.signature.shapes[0] == [[24, 24], [24]] * 20


def test_without_the_key_the_lists_are_lost(recording, tmp_path):
    live, path = recording
    content = json.loads(path.read_text())
    assert content.pop(EXTRAS_KEY)
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(content))
    foreign = diagnose.read(bare)
    assert foreign != live
    assert fused_row(foreign).cost_source != fused_row(live).cost_source
    assert not foreign.ceilings  # that machine is not this one
