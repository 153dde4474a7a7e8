"""No op that computes is without a price in a training step of the usual kinds of models."""

import warnings

import pytest
import torch
from architectures import MODELS, UPDATES

import diagnose

# What depends on the data or on how often an algorithm passes over it, and says so.
BOUNDS = {"aten::sort", "aten::topk", "aten::_ctc_loss", "aten::_ctc_loss_backward", "aten::multinomial"}


def report_of(step):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models warn about what is no concern here
        with diagnose.profile() as recording:
            step()
    assert recording.error is None
    return recording.report.document


def unpriced(document):
    """Ops without known work, and why; what is priced and not believed (a noisy clock) is not among them."""
    nameless = {row.op for row in document.kernels if row.cost_source is None}
    return {row.op: row.reason for row in document.coverage.uncosted if row.op in nameless}


@pytest.fixture(autouse=True)
def repeatable():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_step(name):
    step = MODELS[name]()
    step()  # lazy set-up is not what the step is about
    document = report_of(step)
    assert unpriced(document) == {}
    assert document.totals.flops > 0
    bounded = {row.op for row in document.kernels if "bounded" in row.flags}
    assert bounded <= BOUNDS


@pytest.mark.parametrize("name", UPDATES)
def test_an_optimizer_step(name):
    step = UPDATES[name]()
    step()
    document = report_of(step)
    assert unpriced(document) == {}
    # Every one of 20 x (4 x 4 + 4) parameters is read and written at least once, however the step goes about it.
    assert document.totals.bytes >= 2 * 20 * (4 * 4 + 4) * 4


def compiled(function, **config):
    torch._dynamo.reset()
    with torch._inductor.config.patch(config):
        run = torch.compile(function)
        run()
        return report_of(run)


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.leave = torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)

    def forward(self, x):
        return self.leave(torch.nn.functional.gelu(self.enter(x))).softmax(-1)


def _inside(document):
    """Unpriced ops other than the compiled regions themselves, inside which nothing is recorded."""
    return {op: reason for op, reason in unpriced(document).items() if "compiled region" not in reason}


def test_a_compiled_step_has_its_extern_kernels_priced():
    model, x = Small(), torch.rand(4, 8)
    document = compiled(lambda: model(x).sum().backward())
    assert _inside(document) == {}
    products = {row.op for row in document.kernels if row.flops}
    assert products & {"aten::mm", "aten::addmm", "mkldnn::_linear_pointwise", "mkl::_mkl_linear"}


def test_a_frozen_model_has_its_extern_kernels_priced():
    model, x = Small().eval(), torch.rand(4, 8)
    with torch.no_grad():
        document = compiled(lambda: model(x), freezing=True)
    assert _inside(document) == {}
    # Two products of 4 x 8 x 16, by whatever library.
    assert document.totals.flops >= 2 * 2 * 4 * 8 * 16
