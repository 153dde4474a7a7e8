"""What a Python frame's file and name say: whose code it is, and how the report writes where it stands.

A position whose line made the call is written ``train.py:25``. Where only the function is known (an operator such as
``x + 1`` makes no call that a profiler sees), it is the line of the ``def``, and says so: ``train.py:20 def step``.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final, Literal, NamedTuple

Owner = Literal["runtime", "library", "user"]
"""``runtime``: torch, Python's own modules, generated code; ``library``: what is installed; ``user``: the rest."""

MODULE_CALL: Final = "nn.Module: "
"""How the profiler names the call of a module: ``nn.Module: Linear_3``, the third of its class that was called."""

_FRAME: Final = re.compile(r"(.*)\((\d+)\): (.*)", re.DOTALL)
_INSTALLED: Final = re.compile(r".*[\\/](?:site|dist)-packages[\\/]", re.DOTALL)
_STANDARD: Final = re.compile(r"[\\/]lib(?:64)?[\\/]python\d\.\d+[\\/](?!(?:site|dist)-packages)")
_GENERATED: Final = re.compile(
    r"<(?!ipython-input|stdin)|.*(?:^|[\\/])(?:torchinductor_|c[a-z2-7]{50,}\.py)|.*\.py:codegen\(|_codegen\.py",
    re.DOTALL,
)
"""Code without a file of the user's: ``<frozen os>``, ``<string>``, what Inductor and functorch write."""
RUNTIME_FOLDERS: Final = frozenset({"torch", "torchgen", "functorch", "triton"})
"""Packages whose frames are no place: they run between a line of a model and the op that it calls."""
_RUNTIME_MODULES: Final = sys.stdlib_module_names - {"code", "profile", "test", "this", "trace", "__main__"}
"""Python's own modules by name, without those whose names people give to their own files."""
_LIBRARIES: Final = frozenset({
    "accelerate", "apex", "bitsandbytes", "colossalai", "datasets", "deepspeed", "diffusers", "fairscale", "fairseq",
    "flash_attn", "flashinfer", "huggingface_hub", "ignite", "lightning", "megatron", "mmcv", "mmengine", "numpy",
    "pandas", "peft", "pytorch_lightning", "ray", "sentence_transformers", "sglang", "timm", "tokenizers", "torchao",
    "torchaudio", "torchdata", "torchmetrics", "torchtune", "torchvision", "transformer_engine", "transformers", "trl",
    "ultralytics", "unsloth", "uvicorn", "vllm", "xformers",
})  # fmt: skip
"""Packages that are installed as a rule: a trace cuts ``site-packages`` off their paths."""
_GRAPH_MODULE: Final = re.compile(re.escape(MODULE_CALL) + r"(?:Lazy)?GraphModule_\d+")
_KEPT_PARTS: Final = 3


class Frame(NamedTuple):
    """One function as its frame is named; ``line`` is that of its ``def``."""

    file: str
    line: int
    function: str


def read_frame(name: str) -> Frame | None:
    """``model.py(12): forward`` as its parts; None for built-in functions, modules and what else has another form."""
    found = _FRAME.fullmatch(name)
    return None if found is None else Frame(found[1], int(found[2][:9]), found[3])


def is_generated_module(name: str, *, is_inside: bool) -> bool:
    """Whether a module's call is that of a graph which torch.compile made of the module around it."""
    return is_inside and _GRAPH_MODULE.fullmatch(name) is not None


def owner_of(file: str) -> Owner:
    """Whose code a file holds, as far as its path says; paths may have lost the folder that Python found them in."""
    if not file or _GENERATED.match(file):
        return "runtime"
    installed = _INSTALLED.match(file)
    inner = file[installed.end() :] if installed else file
    parts = re.split(r"[\\/]", inner)
    if parts[0] in RUNTIME_FOLDERS or (installed is None and _STANDARD.search(file)):
        return "runtime"
    if installed is not None or parts[0] in _LIBRARIES:
        return "library"
    return "runtime" if parts[0].removesuffix(".py") in _RUNTIME_MODULES else "user"


def shown_path(file: str, folder: str | None = None) -> str:
    """A path that says where in a project the file is, never where on a machine: it may be shared.

    Relative to ``folder`` or to the installed packages where it lies inside, else its last three parts.

    Args:
        file: As the interpreter has it.
        folder: Where the program was started.
    """
    installed = _INSTALLED.match(file)
    if installed is not None:
        return file[installed.end() :]
    if folder is not None and file.startswith(folder.rstrip(os.sep) + os.sep):
        return file[len(folder.rstrip(os.sep)) + 1 :]
    is_absolute = file.startswith(("/", "\\")) or file[1:3] in (":\\", ":/")
    return "/".join(re.split(r"[\\/]", file)[-_KEPT_PARTS:]) if is_absolute else file


def call_line(file: str, line: int) -> str:
    """The line that made the call."""
    return f"{file}:{line}"


def function_line(file: str, line: int, function: str) -> str:
    """The function, by the line of its ``def``; which line of it ran is not known."""
    return f"{file} <module>" if function == "<module>" else f"{file}:{line} def {function}"
