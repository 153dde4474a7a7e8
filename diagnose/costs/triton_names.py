"""What the name of an Inductor kernel tells: its kind and the ops that were fused into it.

``triton_red_fused_add_native_layer_norm_3`` is a reduction made of ``add`` and ``native_layer_norm``. Each op stands
there once however often it occurs, sorted, as it was called before it was taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

from msgspec import Struct

from diagnose.costs.pointwise import BINARY, TERNARY, UNARY

Kind = Literal["pointwise", "reduction", "persistent", "template", "foreach", "user"]

_KINDS: Final[Mapping[str, Kind]] = {
    "poi": "pointwise", "red": "reduction", "per": "persistent", "tem": "template", "for": "foreach",
}  # fmt: skip
_NAME: Final = re.compile(r"(?:^|_)triton_([a-z]{3})_fused(_.*?)?(?:_\d+)?$")
_LONGEST_NAME: Final = 400


class Part(Struct, frozen=True):
    """What a fused op does to one element.

    Attributes:
        flops, special: Operations, as ``costs.pointwise`` counts them.
        operands: Tensors or numbers it takes beyond the one that flows through the kernel.
        is_row: In a reduction it works on its results, not on every element.
    """

    flops: int = 0
    special: int = 0
    operands: int = 0
    is_row: bool = False


def _split(names: str) -> list[str]:
    return names.split()


MOVES: Final = frozenset(_split(
    "view reshape _unsafe_view _reshape_alias permute t transpose expand expand_as unsqueeze squeeze slice select "
    "narrow split split_with_sizes unbind chunk unfold as_strided alias detach detach_ lift_fresh_copy clone copy "
    "copy_ _to_copy convert_element_type contiguous flip roll repeat repeat_interleave tril triu diagonal "
    "view_as_complex view_as_real inductor_seeds inductor_lookup_seed inductor_random bernoulli rand randn "
    "select_backward slice_backward constant_pad_nd reflection_pad2d replication_pad2d mm bmm unsafe_split empty_like "
    "empty new_empty_strided"
))  # fmt: skip
"""Fused ops that only move what others compute, or whose arithmetic another kernel did (``mm`` before an epilogue)."""

CREATES: Final = frozenset(_split(
    "arange full full_like zeros zeros_like ones ones_like new_zeros new_ones new_full scalar_tensor fill fill_ "
    "zero_ eye"
))  # fmt: skip
"""Fused ops that make their values: they read nothing."""

TABLES: Final = frozenset(_split("embedding index index_select gather"))
"""Fused ops that look elements up: at most one for every element of the iteration."""

SLICES: Final = frozenset(_split("slice select split split_with_sizes unbind chunk narrow"))
"""Fused ops that read a part of a tensor."""

SCATTERS: Final = frozenset(_split(
    "index_put index_put_ scatter scatter_ scatter_add scatter_add_ scatter_reduce embedding_dense_backward index_add "
    "index_copy slice_scatter select_scatter"
))  # fmt: skip
"""Fused ops that write a part of a tensor."""

PRODUCTS: Final = frozenset(_split(
    "mm addmm bmm baddbmm _scaled_mm _int_mm convolution flex_attention mv linear matmul"
))  # fmt: skip
"""Fused ops that a template kernel, or a reduction, computes itself."""

PARTS: Final[Mapping[str, Part]] = {
    **{name: Part(row.flops, row.special, row.reads - 1) for name, row in (*UNARY.items(), *BINARY.items(),
                                                                            *TERNARY.items())},
    **dict.fromkeys(MOVES, Part()), **dict.fromkeys(CREATES, Part()),
    **dict.fromkeys(TABLES, Part(operands=1)), **dict.fromkeys(SCATTERS, Part(operands=1)),
    **dict.fromkeys(("cat", "stack"), Part(operands=1)),
    **dict.fromkeys(("clamp", "clip"), Part(2)), **dict.fromkeys(("clamp_min", "clamp_max"), Part(1)),  # by numbers
    **dict.fromkeys(("add", "sub", "rsub", "div", "true_divide", "add_", "sub_", "mul_", "div_"), Part(1, operands=1)),
    **dict.fromkeys(("scatter_add", "scatter_add_", "index_add", "embedding_dense_backward"), Part(1, operands=1)),
    **dict.fromkeys(("sqrt", "rsqrt", "reciprocal"), Part(1, is_row=True)),
    **dict.fromkeys(("sum", "mean", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all", "prod", "cumsum"),
                    Part(1)),
    **dict.fromkeys(("var", "var_mean", "std", "std_mean"), Part(4)),
    **dict.fromkeys(("addmm", "baddbmm", "convolution"), Part(1, operands=1)),  # the bias, where it is an epilogue
    "pow": Part(1), "gelu": Part(4, 1), "gelu_backward": Part(9, 2, 1),
    "addcmul": Part(2, operands=2), "addcdiv": Part(2, operands=2),
    "native_dropout": Part(3), "dropout": Part(3),
    "_softmax": Part(4, 1), "_log_softmax": Part(4, 1), "_safe_softmax": Part(4, 1), "logsumexp": Part(3, 1),
    "_softmax_backward_data": Part(4, 0, 1), "_log_softmax_backward_data": Part(3, 1, 1),
    "native_layer_norm": Part(6, operands=2), "native_layer_norm_backward": Part(10, operands=2),
    "native_group_norm": Part(6, operands=2), "_fused_rms_norm": Part(3, operands=1),
    "_native_batch_norm_legit": Part(6, operands=2), "_native_batch_norm_legit_functional": Part(6, operands=2),
    "_native_batch_norm_legit_no_training": Part(4, operands=4), "native_batch_norm": Part(6, operands=2),
    "mse_loss": Part(2, operands=1), "mse_loss_backward": Part(3, operands=2),
    "nll_loss_forward": Part(0, operands=1), "nll_loss_backward": Part(0, operands=2),
    "_scaled_mm": Part(), "_int_mm": Part(), "flex_attention": Part(), "linear": Part(), "matmul": Part(), "mv": Part(),
}  # fmt: skip
"""Each op that may be fused, at least once; what is not here is not known, and then neither are the FLOPs."""

_ROOTS: Final = frozenset({"sqrt", "rsqrt"})
_WORDS: Final = max(name.count("_") + 1 for name in PARTS)


class KernelName(Struct, frozen=True):
    """A kernel's kind, and the ops fused into it, None where the name tells no ops or one that we do not know."""

    kind: Kind
    ops: tuple[str, ...] | None

    def has(self, names: frozenset[str]) -> bool:
        """Whether one of ``names`` was fused into it."""
        return self.ops is not None and not names.isdisjoint(self.ops)

    @property
    def operands(self) -> int | None:
        """How many inputs the ops take between them: one that flows through and what each adds."""
        if self.ops is None:
            return None
        adds_epsilon = "add" in self.ops and not _ROOTS.isdisjoint(self.ops)  # a number, under the root
        return 1 + sum(PARTS[op].operands for op in self.ops) - adds_epsilon


@cache
def read_triton_name(name: str) -> KernelName:
    """The kind and the fused ops of a Triton kernel; a name without Inductor's form is a user's."""
    match = _NAME.search(name)
    if match is None or len(name) > _LONGEST_NAME:
        return KernelName("user", None)
    return KernelName(_KINDS.get(match[1], "user"), _ops(match[2] or ""))


def _ops(text: str) -> tuple[str, ...] | None:
    """``_add_bitwise_and__to_copy`` cut into as few known ops as possible; None where it cannot be."""
    if not text:
        return None
    words = text[1:].split("_")
    best: list[tuple[str, ...] | None] = [()] + [None] * len(words)
    for end in range(1, len(words) + 1):
        for begin in range(max(0, end - _WORDS), end):
            before, name = best[begin], "_".join(words[begin:end])
            if before is None or name not in PARTS:
                continue
            now = best[end]
            if now is None or len(before) + 1 < len(now):
                best[end] = (*before, name)
    return best[-1]
