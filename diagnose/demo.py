"""``diagnose demo``: a real architecture's forward pass, recorded and reported on whatever device there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from diagnose.errors import DiagnoseError, UsageError
from diagnose.live.session import measured
from diagnose.output import write_whole
from diagnose.recording.recorder import require_torch
from diagnose.report import Report

_PICTURE_DPI: Final = 150


@dataclass(frozen=True, slots=True)
class Demo:
    """What a demo leaves: the report, and the files that were written."""

    report: Report
    paths: tuple[Path, ...]


def run(model: str = "gpt2", out: str | os.PathLike[str] = "out", *, is_small: bool = False) -> Demo:
    """Runs a model with random weights (nothing is downloaded), records it, writes the report into ``out``.

    Args:
        model: ``gpt2``, a decoder of GPT-2's size, or ``vit``, a vision transformer (base, patch 16).
        out: Folder that gets ``report.json``, ``kernels.csv``, ``roofline.png`` and ``trace.json.gz``.
        is_small: Two narrow layers instead of the real size, for a look at the files alone.

    Raises:
        DiagnoseError: torch or transformers is missing, or a file cannot be written.
        UsageError: No such model.
    """
    if model not in _MODELS:
        raise UsageError(f"no demo model {model!r}; there are {', '.join(sorted(_MODELS))}")
    require_torch()
    transformers = _transformers()
    import torch

    on_gpu = torch.cuda.is_available()
    with torch.no_grad():
        forward = _MODELS[model](transformers, on_gpu, is_small)
        session = measured(forward, warmup=3 if on_gpu else 1, repeat=5 if on_gpu else 3)
    report = session.report
    if report is None:
        raise DiagnoseError(session.error or "nothing was recorded")
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiagnoseError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    session.save(folder / "trace.json.gz")
    return Demo(report, (folder / "trace.json.gz", *_write(report, folder)))


def _write(report: Report, folder: Path) -> tuple[Path, ...]:
    picture = BytesIO()
    figure: Any = report.plot().figure
    figure.savefig(picture, format="png", dpi=_PICTURE_DPI)
    contents: dict[str, str | bytes] = {
        "report.json": report.to_json(),
        "kernels.csv": report.to_csv(),
        "roofline.png": picture.getvalue(),
    }
    if find_spec("bokeh") is not None:
        contents["report.html"] = report.to_html() or ""
    for name, content in contents.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in contents)


def _transformers() -> Any:
    """The package, whose own annotations are too loose to be checked against."""
    # Weights are random: the hub has nothing that is needed here, and may not be reachable.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers
    except ImportError as error:
        raise DiagnoseError("the demo needs transformers: pip install 'torch-diagnose[demo]'") from error
    package: Any = transformers
    package.logging.set_verbosity_error()
    return package


def _placed(model: Any, on_gpu: bool) -> Any:
    import torch

    return model.eval().to("cuda", torch.bfloat16) if on_gpu else model.eval()


def _gpt2(transformers: Any, on_gpu: bool, is_small: bool) -> Callable[[], object]:
    """12 layers of width 768, 124 M parameters; the forward pass over a prompt, as in prefill."""
    import torch

    torch.manual_seed(0)
    size = {"n_layer": 2, "n_embd": 64, "n_head": 2, "vocab_size": 1000} if is_small else {}
    config = transformers.GPT2Config(use_cache=False, **size)
    model = _placed(transformers.GPT2LMHeadModel(config), on_gpu)
    batch, length = (8, 1024) if on_gpu and not is_small else (1, 256)
    tokens = torch.randint(config.vocab_size, (batch, length), device=model.device)
    return lambda: model(tokens)


def _vit(transformers: Any, on_gpu: bool, is_small: bool) -> Callable[[], object]:
    """12 layers of width 768, 86 M parameters, images of 224 x 224 in patches of 16."""
    import torch

    torch.manual_seed(0)
    small = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
    config = transformers.ViTConfig(**(small if is_small else {}))
    model = _placed(transformers.ViTModel(config), on_gpu)
    batch = 32 if on_gpu and not is_small else 2
    images = torch.randn(batch, 3, config.image_size, config.image_size, device=model.device, dtype=model.dtype)
    return lambda: model(images)


_MODELS: Final[dict[str, Callable[[Any, bool, bool], Callable[[], object]]]] = {"gpt2": _gpt2, "vit": _vit}
