"""Reports from loops that other libraries run: the Hugging Face Trainer, Lightning, Accelerate."""

from collections import Counter

import pytest

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own


def calls(report):
    found = Counter()
    for row in report.kernels:
        found[row.op] += row.calls
    return found


class Regression(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 16)

    def forward(self, x, labels=None):
        return {"loss": (self.layer(x) - labels).square().mean()}


def rows(count):
    return [{"x": torch.randn(16), "labels": torch.randn(16)} for _ in range(count)]


def test_hugging_face_trainer(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from diagnose.integrations.transformers import DiagnoseCallback

    reports = []
    callback = DiagnoseCallback(wait=1, warmup=1, active=2, out=tmp_path / "traces", then=reports.append)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True, logging_strategy="no",
    )  # fmt: skip
    transformers.Trainer(Regression(), arguments, train_dataset=rows(64), callbacks=[callback]).train()
    assert reports == [callback.report]
    assert len(callback.report.window.steps) == 2
    assert calls(callback.report)["aten::addmm"] == 4  # two steps of two accumulated batches
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["rank0.json.gz"]


class Lit:
    """Made in a function: Lightning is imported only where it is installed."""

    @staticmethod
    def module():
        import lightning.pytorch as pl

        class Module(pl.LightningModule):
            fails_at = None

            def __init__(self):
                super().__init__()
                self.model = Regression()

            def training_step(self, batch, number):
                if number == self.fails_at:
                    raise ValueError("boom")
                return self.model(**batch)["loss"]

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=0.1)

        return Module()

    @staticmethod
    def trainer(callback):
        import lightning.pytorch as pl

        return pl.Trainer(
            max_steps=8, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[callback],
        )  # fmt: skip


def test_lightning():
    pytest.importorskip("lightning")
    from diagnose.integrations.lightning import DiagnoseCallback

    reports = []
    callback = DiagnoseCallback(wait=1, warmup=1, active=3, then=reports.append)
    Lit.trainer(callback).fit(Lit.module(), torch.utils.data.DataLoader(rows(32), batch_size=2))
    assert reports == [callback.report]
    assert len(callback.report.window.steps) == 3
    assert calls(callback.report)["aten::addmm"] == 3


def test_lightning_that_fails_gives_what_was_recorded():
    pytest.importorskip("lightning")
    from diagnose.integrations.lightning import DiagnoseCallback

    module, callback = Lit.module(), DiagnoseCallback(wait=0, warmup=0, active=3, then=None)
    module.fails_at = 2
    with pytest.raises(ValueError, match="boom"):
        Lit.trainer(callback).fit(module, torch.utils.data.DataLoader(rows(32), batch_size=2))
    assert calls(callback.report)["aten::addmm"] >= 2


def test_a_second_profiler_stops_no_training():
    pytest.importorskip("transformers")
    import diagnose
    from diagnose.integrations.loop import LoopProfile

    loop = LoopProfile(then=None)
    with diagnose.profile(), pytest.warns(RuntimeWarning, match="nothing is recorded"):
        loop.begin()
    loop.step()
    loop.end()
    assert loop.report is None


def test_accelerate_recipe():
    accelerate = pytest.importorskip("accelerate")
    import diagnose

    accelerator = accelerate.Accelerator(cpu=True)
    model = Regression()
    loader = torch.utils.data.DataLoader(rows(24), batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
    with diagnose.profile(wait=1, warmup=1, active=2) as p:
        for batch in loader:
            accelerator.backward(model(**batch)["loss"])
            optimizer.step()
            optimizer.zero_grad()
            p.step()
    assert calls(p.report)["aten::addmm"] == 2
