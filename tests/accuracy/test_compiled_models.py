"""A compiled training step: forward, backward and update. What computes has a price, or is said to be hidden.

The products that Inductor leaves to libraries are counted a second time, by torch's counter over the same step run
eagerly: compiling moves them, and changes none.
"""

import warnings

import pytest
import torch
import transformers
from architectures import CLASSES, PICTURES, TRANSFORMERS
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import diagnose
from diagnose.compiled import HIDDEN

PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_convolution", "aten::convolution",
            "aten::convolution_backward", "mkl::_mkl_linear", "mkldnn::_linear_pointwise",
            "mkldnn::_convolution_pointwise"}  # fmt: skip


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.deep = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, 2)
        self.leave = nn.Linear(8 * 7 * 7, 3)

    def forward(self, x):
        x = functional.max_pool2d(self.norm(self.enter(x)).relu(), 2)
        return self.leave(self.deep(x).flatten(1))


def _pictures():
    model = Pictures()
    return model, lambda run: functional.cross_entropy(run(PICTURES), CLASSES)


def _transformer(name):
    """One layer, attention by plain products (torch's counter knows no CPU attention), nothing dropped."""
    model_class, config_class, settings, inputs = TRANSFORMERS[name]
    still = {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = getattr(transformers, config_class)(**{**settings, **still}, attn_implementation="eager")
    return getattr(transformers, model_class)(config).train(), lambda run: run(**inputs).loss


# Inductor compiles C++, ten seconds a model: one is enough. aot_eager runs the same graphs op by op.
MODELS = {
    "convolutions": ("inductor", _pictures),
    "BERT": ("aot_eager", lambda: _transformer("BERT")),
    "Llama": ("aot_eager", lambda: _transformer("Llama")),
}


def _training(model, loss_of, run):
    """A function that does one whole step, the model called by ``run``."""
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)

    def step():
        optimizer.zero_grad()
        loss_of(run).backward()
        optimizer.step()

    return step


def _recorded(step):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models warn about what is no concern here
        step()  # compiles
        step()
        with diagnose.profile() as recording:
            step()
    assert recording.error is None
    return recording.report.document


def _unpriced(document):
    """Why each op has no price; what is priced and not believed (a noisy clock) is not among them."""
    nameless = {row.op for row in document.kernels if row.cost_source is None}
    return {row.op: row.reason for row in document.coverage.uncosted if row.op in nameless}


@pytest.fixture(autouse=True)
def afresh():
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_training_step_hides_only_what_it_says_is_hidden(name):
    backend, make = MODELS[name]
    model, loss_of = make()
    eager = _training(model, loss_of, model)
    with FlopCounterMode(display=False) as counter:
        eager()
    document = _recorded(_training(model, loss_of, torch.compile(model, backend=backend)))

    assert set(_unpriced(document).values()) == {HIDDEN}
    assert any("inside which nothing is recorded" in note for note in document.notes)
    products = sum(row.flops * row.calls for row in document.kernels if row.op in PRODUCTS and row.flops)
    assert products == counter.get_total_flops()
    # The update is not compiled: every parameter, its gradient and its two averages pass, however it is cut up.
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert document.totals.bytes > 4 * 7 * parameters
