"""What the name of a kernel or of a copy says. Names are hints from a stranger: what they do not say is None."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

Collective = Literal[
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "reduce", "send_recv", "barrier", "other",
]  # fmt: skip
Direction = Literal["host_to_device", "device_to_host", "device_to_device", "peer", "host_to_host"]


class NameFacts(Struct, frozen=True):
    """What a kernel's name says.

    Attributes:
        collective: Which collective it is, ``other`` where the name does not tell, None for no collective.
        is_tensor_core: Whether it multiplies on tensor cores (AMD: matrix cores); None: not said.
        arithmetic: The inputs' type in a matrix product (``bfloat16``, ``tfloat32``...), None where not said.
        is_gemm: Made of dense matrix products: plain, convolution, or attention.
        is_gemv: A matrix-vector product.
        is_persistent: Its blocks each work on many tiles, so that few blocks are not little work.
        tile: Output tile of one block as (rows, columns) in the name's own order.
        is_split_k: The inner dimension is cut, or this is the kernel that adds the cuts up.
        is_layout: Only changes a tensor's layout.
        is_set: Only fills memory.
        is_strided: torch's variant for tensors that are not contiguous, which computes an address an element.
    """

    collective: Collective | None = None
    is_tensor_core: bool | None = None
    arithmetic: str | None = None
    is_gemm: bool = False
    is_gemv: bool = False
    is_persistent: bool = False
    tile: tuple[int, int] | None = None
    is_split_k: bool = False
    is_layout: bool = False
    is_set: bool = False
    is_strided: bool = False

    @property
    def is_collective(self) -> bool:
        """Whether it moves data between devices."""
        return self.collective is not None


def _any(*patterns: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile("|".join(patterns), flags)


# Inductor names a fused kernel after its ops: "triton_poi_fused_all_reduce_..." computes after a collective.
_TRITON_FUSED = re.compile(r"^triton_(?:poi|red|per|tem|for|mm|unk|split_scan)_")

_START = r"(?:^|[\s:&(])"
_COLLECTIVE: Final = _any(
    rf"{_START}nccl(?:Dev|Symk?Dev|Symk?)?Kernel",  # NCCL 2.x: ncclKernel_, since 2.19 ncclDevKernel_, 2.27 ncclSymk...
    rf"{_START}(?:rcclGenericKernel|msccl(?:pp)?Kernel)",  # RCCL
    rf"{_START}multimem_(?:one_shot_)?(?:all_reduce|all_gather|reduce_scatter|reduce)\w*kernel",  # torch symmetric mem.
    rf"{_START}reduce_scatter_kernel\w*",
    rf"{_START}c10d::symmetric_memory::(?:barrier|put_signal|wait_signal)_kernel",
    rf"{_START}(?:one|two)_shot_all_?reduce\w*",
    rf"{_START}cross_device_reduce_\w+",  # vLLM, SGLang, AITER
    rf"{_START}reduce_scatter_cross_device\w*",  # AITER
    rf"{_START}\w*allreduce_(?:prototype|fusion_kernel)\w*",  # quick reduce, FlashInfer
    rf"{_START}(?:one|two)[Ss]hot\w*All[Rr]educe\w*",  # TensorRT-LLM, FlashInfer
    rf"{_START}userbuffers_\w+",  # Transformer Engine
    rf"{_START}nvshmemi?_\w+",
    rf"{_START}mscclpp::[\w:]*(?:[Aa]ll_?(?:[Rr]educe|[Gg]ather|[Tt]o_?[Aa]ll)|[Rr]educe_?[Ss]catter|[Bb]roadcast)\w*",
    rf"{_START}allreduce_LL_\dnode\w*",  # SGLang's MSCCL++
    rf"{_START}deep_ep::\w+::(?:dispatch|combine|notify_dispatch|cached_notify\w*|barrier)\b",
)
_COLLECTIVE_KINDS: Final[tuple[tuple[Collective, re.Pattern[str]], ...]] = (
    ("reduce_scatter", _any(r"reduce_?scatter", flags=re.IGNORECASE)),
    ("all_reduce", _any(r"all_?reduce", r"cross_device_reduce", flags=re.IGNORECASE)),
    ("all_gather", _any(r"all_?gather", flags=re.IGNORECASE)),
    ("all_to_all", _any(r"all_?to_?all", r"deep_ep::\w+::(?:dispatch|combine)", flags=re.IGNORECASE)),
    ("broadcast", _any(r"broadcast", flags=re.IGNORECASE)),
    ("send_recv", _any(r"send_?recv", r"_put_|_get_|put_?mem|get_?mem", flags=re.IGNORECASE)),
    ("barrier", _any(r"barrier", flags=re.IGNORECASE)),
    ("reduce", _any(r"reduce", flags=re.IGNORECASE)),
)

_GEMV: Final = _any(r"gemv", r"gemmk1_kernel", r"\bdot_kernel", r"\bwvSplitK", flags=re.IGNORECASE)
_GEMM: Final = _any(
    r"(?<!fb)gemm", r"^triton_tem_fused_\w*mm", r"nvjet_", r"^Cijk_", r"matmul", r"(?:^|_)bmm_", r"implicit_?conv",
    r"(?:f|d)prop", r"[dw]grad", r"scudnn", r"hcudnn", r"flash_(?:fwd|bwd)", r"fmha", r"\bck\d*\w*conv\w*xdl",
    flags=re.IGNORECASE,
)  # fmt: skip
_NO_GEMM: Final = _any(
    r"splitKreduce", r"reduce_wgrad", r"Offsets", r"winograd_?nonfused", r"ReduceSplitK", r"convert_dq", r"convert_dkv",
    r"dot_do_o", r"_finalize_", r"flash_fwd_splitkv_combine", flags=re.IGNORECASE,
)  # fmt: skip

_VECTOR: Final = _any(
    r"simt",
    r"(?:kepler|maxwell|pascal|volta|turing|ampere)_(?:s|d|h|c|z|gc)gemm",
    r"_scudnn_",
    r"(?:^|\W)(?:sgemm|dgemm|gemmSN)\w*",
    r"implicit_convolve_sgemm",
    r"(?:dgrad|wgrad_alg0)_engine<(?:float|double)",
    r"_sm50\b",
)
_TENSOR: Final = _any(
    r"nvjet_",
    r"tensorop",
    r"w?gmma|hmma|mfma|xdl",
    r"[_a-z](?:s|h|i|d)(?:884|1688|16816|16832|16864|161616|81632)",  # the shape of one tensor-core instruction
    r"_tensor\d+x\d+x\d+",
    r"xmma_\w*(?:bf16|f16|tf32|e4m3|e5m2|i8|s8)",
    r"_gtcx\d",
    r"^Cijk_\w*_MI\d+x\d+",
    r"sm(?:90|1\d\d)[af]?_",
    r"(?:Mainloop|enable_3x_kernel_for_)[Ss]m(?:90|9x|1\d\d|10x)",  # CUTLASS 3 writes its collectives out in types
    r"sm1\d\d[af]\b",
    r"fmha\w*Sm(?:90|1\d\d)",
    r"flash_(?:fwd|bwd)_(?:splitkv_)?(?:dq_dk_dv_loop_\w*)?kernel",
    r"fmha_cutlass[FB]_\w*sm(?:70|75|80|90)",
    r"tfloat32",
    r"\btf32\b",
)

# Narrow before wide would read "bf16xbf16xmxfp4" as float4: weights are widened to the type of the product.
_ARITHMETIC: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("tfloat32", _any(r"tf32", r"tfloat32", r"xf32")),
    ("float64", _any(r"dgemm", r"d884|d1688|d16816", r"f64f64")),
    ("float8", _any(r"e4m3", r"e5m2", r"fp8", r"f8f8|F8B?S?_", r"nvjet_qq", flags=re.IGNORECASE)),
    ("bfloat16", _any(r"bf16", r"bfloat16", r"nvjet_t", flags=re.IGNORECASE)),
    ("float16", _any(r"(?<!b)f16", r"fp16", r"half", r"hgemm", r"[_a-z]h(?:884|1688|16816)", r"hcudnn", r"nvjet_h")),
    ("float4", _any(r"e2m1", r"(?:mx|nv)fp4")),
    ("int8", _any(r"int8", r"[_a-z]i(?:8816|16832|16864)", r"i8i8|s8s8", r"imma")),
    ("float32", _any(r"sgemm", r"scudnn", r"f32f32", r"(?:dgrad|wgrad_alg0)_engine<float", r"f32_aligned")),
)
_TENSILE: Final = re.compile(r"^Cijk_A[a-z]+_B[a-z]+_(?P<type>F8|B8|I8|[BHSDX])")
_TENSILE_ARITHMETIC: Final = {
    "B": "bfloat16", "H": "float16", "S": "float32", "D": "float64", "F8": "float8", "B8": "float8", "I8": "int8",
    "X": "tfloat32",
}  # fmt: skip
# CUTLASS leaves a type out when it is float32, and 16x8x8 products of float32 exist as TF32 only.
_BARE_S1688: Final = re.compile(r"tensorop_s1688(?:gemm|fprop|dgrad|wgrad)(?:_grouped)?_\d")

_PERSISTENT: Final = _any(r"nvjet_", r"persist", r"stream_?k", r"_SK[1-9]", flags=re.IGNORECASE)
_SPLIT_K: Final = _any(r"split_?k(?!v)", r"_GSU(?:[2-9]|\d\d)", flags=re.IGNORECASE)
_TILES: Final = (
    re.compile(r"tilesize(\d+)x(\d+)x"),
    re.compile(r"_MT(\d+)x(\d+)x"),
    re.compile(r"_bt(\d+)x(\d+)x"),
    re.compile(r"_t(\d+)x(\d+)x\d+"),
    re.compile(r"GemmShapeILi(\d+)ELi(\d+)E"),
    re.compile(r"_(\d{2,3})x(\d{1,3})(?:_|x|$)"),
)
_LAYOUT: Final = _any(
    r"nchwToNhwc", r"nhwcToNchw", r"nchw2nhwc", r"nhwc2nchw", r"^batched_transpose_", r"^transpose_[A-Z]+2[A-Z]+",
    r"cudnn\w*::\w*tensorTransform", r"nchwToFold",
)  # fmt: skip
# Contiguous tensors go to vectorized_elementwise_kernel, unrolled_..., CatArrayBatchedCopy_contig, ..._aligned16_...
_STRIDED: Final = _any(r"\bnative::elementwise_kernel<", r"\bCatArrayBatchedCopy<")
_SET: Final = _any(r"FillFunctor", r"(?:^|_)memset", flags=re.IGNORECASE)


_READ: Final = 4000
"""Characters of a name that are looked at: more than any real one needs, few enough for a hostile one."""


@lru_cache(maxsize=4096)
def read_name(name: str) -> NameFacts:
    """What the kernel's name says; cached, since a trace repeats a few hundred names."""
    name = name[:_READ]
    collective = _collective(name)
    if collective is not None:
        return NameFacts(collective=collective)
    is_split_k = _SPLIT_K.search(name) is not None
    is_gemv = _GEMV.search(name) is not None
    is_gemm = not is_gemv and _GEMM.search(name) is not None and _NO_GEMM.search(name) is None
    is_layout = _LAYOUT.search(name) is not None
    if not (is_gemm or is_gemv):
        return NameFacts(
            is_split_k=is_split_k,
            is_layout=is_layout,
            is_set=_SET.search(name) is not None,
            is_strided=_STRIDED.search(name) is not None,
            is_persistent=_PERSISTENT.search(name) is not None,
        )
    return NameFacts(
        is_tensor_core=False if is_gemv else _tensor_core(name),
        arithmetic=_arithmetic(name),
        is_gemm=is_gemm,
        is_gemv=is_gemv,
        is_persistent=_PERSISTENT.search(name) is not None,
        tile=_tile(name) if is_gemm else None,
        is_split_k=is_split_k,
    )


def _collective(name: str) -> Collective | None:
    head = _without_parameters(name)
    if _TRITON_FUSED.match(head) or _COLLECTIVE.search(head) is None:
        return None
    return next((kind for kind, pattern in _COLLECTIVE_KINDS if pattern.search(head)), "other")


def _without_parameters(name: str) -> str:
    """The name without its last list in parentheses, whose types may be a communication library's."""
    if not name.endswith(")"):
        return name
    depth = 0
    for place in range(len(name) - 1, -1, -1):
        depth += (name[place] == ")") - (name[place] == "(")
        if depth == 0:
            return name[:place]
    return name


def _tensor_core(name: str) -> bool | None:
    if _VECTOR.search(name):
        return False
    if _TENSOR.search(name):
        return True
    # Tensile writes the matrix instruction (MI) where it uses one.
    return False if name.startswith("Cijk_") else None


def _arithmetic(name: str) -> str | None:
    tensile = _TENSILE.match(name)
    if tensile is not None:
        return _TENSILE_ARITHMETIC[tensile["type"]]
    if _BARE_S1688.search(name) and not re.search(r"f16", name):
        return "tfloat32"
    return next((dtype for dtype, pattern in _ARITHMETIC if pattern.search(name)), None)


def _tile(name: str) -> tuple[int, int] | None:
    for pattern in _TILES:
        found = pattern.search(name)
        if found is not None:
            return int(found[1]), int(found[2])
    return None


_DIRECTIONS: Final[tuple[tuple[Direction, re.Pattern[str]], ...]] = (
    ("peer", _any(r"\bPtoP\b", r"PeerToPeer", r"CopyPeer")),
    ("host_to_device", _any(r"\bHto[DA]\b", r"HostToDevice", r"\([MSH]2D\)")),
    ("device_to_host", _any(r"\b[DA]toH\b", r"DeviceToHost", r"\(D2[MSH]\)")),
    ("host_to_host", _any(r"\bHtoH\b", r"HostToHost")),
    ("device_to_device", _any(r"\b[DA]to[DA]\b", r"DeviceToDevice", r"\(D2D\)")),
)


@lru_cache(maxsize=256)
def copy_direction(name: str) -> Direction | None:
    """From where to where a memory copy goes, by its name; None where it does not say."""
    return next((direction for direction, pattern in _DIRECTIONS if pattern.search(name)), None)


@lru_cache(maxsize=256)
def is_pageable(name: str) -> bool | None:
    """Whether a copy's host side is pageable memory, which makes its call wait; None where the name does not say."""
    if "Pageable" in name:
        return True
    return False if "Pinned" in name else None


_OPAQUE: Final = re.compile(r"OpaqueType<(\d+)u?>")


@lru_cache(maxsize=4096)
def element_size(name: str) -> int | None:
    """Bytes of an element that a kernel only moves (torch's cat says so in its name), None where it does not say."""
    found = _OPAQUE.search(name[:_READ])
    return None if found is None else int(found[1])
