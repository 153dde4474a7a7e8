"""The steps that everything is measured on: real architectures, eager, compiled and as a device graph; probe kernels.

A workload makes a step and says what is known of its work by hand. Sizes are a server GPU's, tiny ones on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.gpu import closed_forms, models
from benchmarks.gpu.models import SMALL, Sizes
from diagnose.kernels import gemm, polynomial, resident, special, stream

MODES: Final = ("eager", "compiled", "graph")


@dataclass(frozen=True, slots=True)
class Step:
    """One step, ready to run again and again.

    Attributes:
        run: The step.
        flops: FLOPs of its products by family, written down or counted by hand; None where no closed form is known.
        bytes: Compulsory traffic of all of it, for single kernels.
        bound: What a probe kernel was built to be bound by.
    """

    run: Callable[[], object]
    flops: Mapping[str, int] | None = None
    bytes: int | None = None
    bound: str | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """A name, how to make the step, and whether that needs a GPU."""

    name: str
    make: Callable[[str, bool], Step] = field(repr=False)
    needs_gpu: bool = False

    def unavailable(self, device: str) -> str | None:
        """Why it cannot run on this device."""
        return "needs a GPU" if self.needs_gpu and torch.device(device).type != "cuda" else None


Made = tuple[nn.Module, tuple[Any, ...]]
"""A model and its inputs."""


def dtype_of(device: str) -> torch.dtype:
    """bfloat16 on a GPU; a CPU multiplies float32."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def _sizes(small: bool, **changes: int) -> Sizes:
    return Sizes(**{**(SMALL if small else Sizes()).__dict__, **changes})


def _ids(sizes: Sizes, batch: int, length: int, device: str) -> Tensor:
    return torch.randint(0, sizes.vocabulary, (batch, length), device=device)


def _prefill(device: str, small: bool) -> Made:
    sizes = _sizes(small)
    return models.Decoder(sizes).to(device, dtype_of(device)), (_ids(sizes, 4, sizes.length, device),)


def _decode(batch: int, device: str, small: bool) -> Made:
    sizes, dtype = _sizes(small), dtype_of(device)
    shape = (batch, sizes.groups, sizes.length, sizes.head)
    cache = [
        (torch.randn(shape, device=device, dtype=dtype), torch.randn(shape, device=device, dtype=dtype))
        for _ in range(sizes.layers)
    ]
    return models.Decoder(sizes).to(device, dtype), (_ids(sizes, batch, 1, device), cache)


def _experts(device: str, small: bool) -> Made:
    sizes = _sizes(small, experts=4 if small else 8, layers=2 if small else 4)
    return models.Decoder(sizes).to(device, dtype_of(device)), (_ids(sizes, 1, sizes.length, device),)


def _pictures(batch: int, channels: int, side: int, device: str) -> Tensor:
    return torch.randn(batch, channels, side, side, device=device, dtype=dtype_of(device))


def _vit(device: str, small: bool) -> Made:
    width, layers, heads, patch = (32, 2, 4, 8) if small else (768, 12, 12, 16)
    model = models.VisionTransformer(width, layers, heads, patch).to(device, dtype_of(device))
    return model, (_pictures(2 if small else 32, 3, 32 if small else 224, device),)


def _resnet(device: str, small: bool) -> Made:
    width, depths = (8, (1, 1)) if small else (64, (3, 4, 6, 3))
    model = models.resnet(width, depths).to(device, dtype_of(device), memory_format=torch.channels_last)
    pictures = _pictures(2 if small else 64, 3, 32 if small else 224, device)
    return model, (pictures.contiguous(memory_format=torch.channels_last),)


def _dit(device: str, small: bool) -> Made:
    width, layers, heads, length = (32, 2, 4, 16) if small else (1152, 8, 16, 1024)
    model = models.DiffusionTransformer(width, layers, heads).to(device, dtype_of(device))
    tokens = torch.randn(2 if small else 8, length, width, device=device, dtype=dtype_of(device))
    return model, (tokens, tokens[:, 0])


def _unet(device: str, small: bool) -> Made:
    width, time, side = (16, 16, 16) if small else (320, 1280, 64)
    model = models.UNet(width, time).to(device, dtype_of(device))
    given = _pictures(2 if small else 8, 4, side, device)
    return model, (given, torch.randn(len(given), time, device=device, dtype=given.dtype))


def _gqa(queries: int, device: str, small: bool) -> Made:
    """Attention alone with 8 query heads a key head; ``queries`` 0 is prefill, as many queries as keys."""
    batch, groups, length, width = (2, 2, 32, 16) if small else (8, 4, 4096, 128)
    shapes = [(batch, 8 * groups, queries or length, width), *[(batch, groups, length, width)] * 2]
    q, k, v = (torch.randn(shape, device=device, dtype=dtype_of(device)) for shape in shapes)
    return models.Attention(), (q, k, v, not queries)


def _inference(build: Callable[[str, bool], Made], mode: str, device: str, small: bool) -> Step:
    model, given = build(device, small)
    model.eval()
    flops = closed_forms.count(model, lambda: model(*given))
    run = compiled(model) if mode == "compiled" else model
    step = torch.no_grad()(lambda: run(*given))
    return Step(graphed(step) if mode == "graph" else step, flops)


def compiled(model: nn.Module) -> Callable[..., Any]:
    """Compiled for these very shapes: torch keeps a few variants of a function, and past them it runs it eagerly."""
    torch._dynamo.reset()  # noqa: SLF001 - the documented way to forget earlier workloads
    run: Callable[..., Any] = torch.compile(model, dynamic=False)
    return run


def graphed(step: Callable[[], object]) -> Callable[[], object]:
    """The step as a device graph, warmed up on a stream of its own before it is captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(_held: Callable[[], object] = step) -> None:  # the graph reads what only the step keeps alive
        graph.replay()

    return replay


_OPTIMIZERS: Final[Mapping[str, Mapping[str, bool]]] = {
    "plain": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True},
}  # fmt: skip


def _training(optimizer: str, precision: str, mode: str, device: str, small: bool) -> Step:
    sizes = _sizes(small, layers=2 if small else 4, length=32 if small else 1024)
    model = models.Decoder(sizes).to(device)
    ids = _ids(sizes, 4, sizes.length + 1, device)
    given, wanted = ids[:, :-1].contiguous(), ids[:, 1:].flatten()
    flops = closed_forms.count(model, lambda: model(given), is_training=True)
    switches: dict[str, Any] = {**_OPTIMIZERS[optimizer], **({"capturable": True} if mode == "graph" else {})}
    update = torch.optim.AdamW(model.parameters(), 1e-4, **switches)
    run = compiled(model) if mode == "compiled" else model

    def step() -> object:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            loss = functional.cross_entropy(run(given).flatten(0, 1), wanted)
        loss.backward()
        update.step()
        update.zero_grad(set_to_none=True)
        return loss

    return Step(graphed(step) if mode == "graph" else step, flops)


def _float8(device: str, small: bool) -> Step:
    shape = (64, 64, 64) if small else (8192, 8192, 8192)
    run = gemm.build(shape, "float8", device)
    return Step(torch.no_grad()(run), {"matmul": gemm.flops(shape)}, gemm.bytes_accessed(shape, "float8"), "compute")


def _gemm(dtype: str, device: str, small: bool) -> Step:
    side = 64 if small else 4096 if dtype == "float64" else 8192
    shape = (side, side, side)

    one = gemm.build(shape, dtype, device)

    def run() -> None:
        with gemm.arithmetic(dtype):
            one()

    flops, moved = gemm.flops(shape), gemm.bytes_accessed(shape, dtype)
    return Step(torch.no_grad()(run), {"matmul": flops}, moved, None if small else "compute")


def _stream(pattern: str, device: str, small: bool) -> Step:
    n = 1 << (12 if small else 28)
    run = torch.no_grad()(stream.build(pattern, n, device))
    return Step(run, {}, stream.bytes_accessed(pattern, n), None if small else "memory")


def _polynomial(steps: int, device: str, small: bool) -> Step:
    n = 1 << (10 if small else 26)
    bound = None if small else "compute" if steps >= 256 else "memory"
    run = torch.no_grad()(polynomial.build(n, steps, device))
    is_fused = polynomial.fusion(device) is not None
    return Step(run, {}, polynomial.bytes_accessed(n, steps, is_fused=is_fused), bound)


def _special(function: str, device: str, small: bool) -> Step:
    n, rounds = (1 << 10, 2) if small else (1 << 24, 64)
    moved = special.bytes_accessed(n, rounds, is_fused=special.is_fused(device))
    return Step(torch.no_grad()(special.build(function, n, rounds, device)), {}, moved, None if small else "compute")


def _resident(device: str, small: bool) -> Step:
    n = 4096 * (1 if small else 1500)
    run = torch.no_grad()(resident.build(n, 4 if small else 64, device))
    return Step(run, {}, resident.bytes_accessed(n), None if small else "memory")


_MODELS: Final[Mapping[str, Callable[[str, bool], Made]]] = {
    "prefill": _prefill,
    **{f"decode_b{batch}": partial(_decode, batch) for batch in (1, 8, 64)},
    "vit": _vit, "resnet": _resnet, "dit": _dit, "unet": _unet,
    "gqa_prefill": partial(_gqa, 0), "gqa_decode": partial(_gqa, 1),
}  # fmt: skip


def _all() -> dict[str, Workload]:
    made = [
        Workload(f"{name}_{mode}", partial(_inference, build, mode), mode == "graph")
        for name, build in _MODELS.items()
        for mode in MODES
    ]
    # Which tokens an expert gets is read by the host: nothing that a graph can hold.
    made += [Workload(f"moe_{mode}", partial(_inference, _experts, mode)) for mode in ("eager", "compiled")]
    made += [
        Workload(f"train_{optimizer}_{precision}", partial(_training, optimizer, precision, "eager"))
        for optimizer in _OPTIMIZERS
        for precision in ("fp32", "tf32", "bf16")
    ]
    made += [
        Workload(f"train_fused_bf16_{mode}", partial(_training, "fused", "bf16", mode), mode == "graph")
        for mode in ("compiled", "graph")
    ]
    made += [Workload("fp8_matmul", _float8, needs_gpu=True)]
    made += [
        Workload(f"kernel_gemm_{dtype}", partial(_gemm, dtype), dtype not in ("float32", "float64"))
        for dtype in gemm.DTYPES
        if dtype != "float8"
    ]
    made += [Workload(f"kernel_stream_{pattern}", partial(_stream, pattern)) for pattern in stream.ARRAYS]
    made += [Workload(f"kernel_polynomial_{steps}", partial(_polynomial, steps)) for steps in (1, 16, 512)]
    made += [Workload(f"kernel_special_{function}", partial(_special, function)) for function in special.FUNCTIONS]
    made += [Workload("kernel_resident", _resident)]
    # Compiling takes longest and comes last: what runs out of time then has the rest.
    return {each.name: each for each in sorted(made, key=lambda each: each.name.endswith("_compiled"))}


WORKLOADS: Final[Mapping[str, Workload]] = _all()

QUICK: Final = (
    "prefill_eager", "decode_b8_eager", "decode_b8_graph", "train_fused_bf16", "resnet_eager", "kernel_gemm_bfloat16",
    "kernel_gemm_float32", "kernel_stream_copy",
)  # fmt: skip
"""What ``--quick`` takes."""
