"""What a collective without metadata moves, from the recorded arguments of its op.

Older recordings keep no metadata of NCCL's kernels, and none keeps any of the kernels that reduce through symmetric
memory. Their ops take the buffers as arguments. The result has the words of ``Trace.metadata``; an op that says only
half of it is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from diagnose.costs.collective import Metadata
from diagnose.work import MissingFactError, Op, TensorMeta


class Row(Struct, frozen=True):
    """Where an op keeps its buffers.

    Attributes:
        collective: What it is, named as NCCL's metadata does.
        reads, writes: Argument of the input and of the output; None: there is none of its own.
        ranks: Argument that holds the number of ranks; None: there is none.
    """

    collective: str
    reads: int | None = 0
    writes: int | None = None
    ranks: int | None = None


_OUT_FIRST: Final = (1, 0)

_ROWS: Final[Mapping[str, Row]] = {
    "c10d::allreduce_": Row("all_reduce"), "c10d::allreduce_coalesced_": Row("all_reduce"),
    "c10d::broadcast_": Row("broadcast"), "c10d::reduce_": Row("reduce"),
    "c10d::send": Row("send"), "c10d::recv_": Row("recv"), "c10d::recv_any_source_": Row("recv"),
    "c10d::_allgather_base_": Row("all_gather", *_OUT_FIRST), "c10d::allgather_": Row("all_gather", 1),
    "c10d::_reduce_scatter_base_": Row("reduce_scatter", *_OUT_FIRST),
    "c10d::alltoall_base_": Row("all_to_all", *_OUT_FIRST), "c10d::alltoall_": Row("all_to_all", *_OUT_FIRST),
    "c10d::scatter_": Row("scatter", *_OUT_FIRST), "c10d::gather_": Row("gather", *_OUT_FIRST),
    # input, reduction, (ranks,) group
    "_c10d_functional::all_reduce": Row("all_reduce"), "_c10d_functional::all_reduce_": Row("all_reduce"),
    "_c10d_functional::broadcast": Row("broadcast"), "_c10d_functional::broadcast_": Row("broadcast"),
    "_c10d_functional::all_gather_into_tensor": Row("all_gather", ranks=1),
    "_c10d_functional::all_gather_into_tensor_out": Row("all_gather", ranks=1),
    "_c10d_functional::reduce_scatter_tensor": Row("reduce_scatter", ranks=2),
    # torch's symmetric memory
    "symm_mem::multimem_all_reduce_": Row("all_reduce"), "symm_mem::two_shot_all_reduce_": Row("all_reduce"),
    "symm_mem::one_shot_all_reduce": Row("all_reduce"), "symm_mem::one_shot_all_reduce_out": Row("all_reduce"),
    "symm_mem::one_shot_all_reduce_copy": Row("all_reduce", 1),
    "symm_mem::one_shot_all_reduce_copy_out": Row("all_reduce", 1),
    "symm_mem::two_shot_all_reduce_out": Row("all_reduce"),
    "symm_mem::multimem_one_shot_all_reduce": Row("all_reduce"),
    "symm_mem::multimem_one_shot_all_reduce_out": Row("all_reduce"),
    "symm_mem::multimem_all_gather_out": Row("all_gather", 0, 2),
    "symm_mem::reduce_scatter_out": Row("reduce_scatter", 0, 3),
    "symm_mem::nvshmem_broadcast": Row("broadcast"), "symm_mem::nvshmem_sendrecv": Row("send_recv", 0, 1),
    "symm_mem::nvshmem_reduce_scatter_out": Row("reduce_scatter", 0, 2),
    "symm_mem::nvshmem_all_to_all": Row("all_to_all", 0, 1),
    # serving engines; theirs take the group's name last
    "vllm::all_reduce": Row("all_reduce"), "vllm::all_gather": Row("all_gather", ranks=2),
    "vllm::reduce_scatter": Row("reduce_scatter", ranks=2),
    "sglang::inplace_all_reduce": Row("all_reduce"), "sglang::outplace_all_reduce": Row("all_reduce"),
    "sglang::reg_all_gather_into_tensor": Row("all_gather", *_OUT_FIRST),
    # a handle, input, output
    "_C_custom_ar::all_reduce": Row("all_reduce", 1, 2), "_C_custom_ar::qr_all_reduce": Row("all_reduce", 1, 2),
    "sgl_kernel::all_reduce": Row("all_reduce", 1, 2), "sgl_kernel::mscclpp_allreduce": Row("all_reduce", 1, 2),
    "vllm::rocm_aiter_fused_allreduce_rmsnorm": Row("all_reduce"),
}  # fmt: skip

_COMM: Final = "record_param_comms"
"""The profiler's own op; its first argument is the input, and which collective it is, is not among the others."""


def described(op: Op, group_sizes: tuple[int, ...], kind: str | None = None) -> Metadata | None:
    """What the op's arguments say, in the words of ``Trace.metadata``; None if they do not say both amounts.

    Args:
        op: The collective's op.
        group_sizes: Of the job's process groups: where only one of them is larger than one, it is taken.
        kind: What the kernel's name says it is, for an op that does not.
    """
    row = _ROWS.get(op.name)
    if row is None and op.name == _COMM and kind in ("all_reduce", "broadcast", "reduce"):
        row = Row(kind)  # the only ones whose output is as large as their input
    if row is None:
        return None
    try:
        read, dtype = _amount(op, row.reads)
        written = None if row.writes is None else _amount(op, row.writes)[0]
        ranks = None if row.ranks is None else op.scalar(row.ranks)
    except MissingFactError:
        return None
    given = ranks if isinstance(ranks, int) and ranks > 0 else _ratio(row.collective, read, written)
    size = given if given is not None else _only(group_sizes)
    written = _output(row.collective, read, size) if written is None else written
    if written is None:
        return None
    found: dict[str, str | int] = {
        "collective": row.collective, "dtype": dtype, "elements_in": read, "elements_out": written,
    }  # fmt: skip
    return found if size is None else {**found, "group_size": size}


def _amount(op: Op, index: int | None) -> tuple[int, str]:
    """Elements and dtype of a buffer, or of a list of them."""
    value = None if index is None or op.inputs is None or index >= len(op.inputs) else op.inputs[index]
    tensors = value if isinstance(value, tuple) else (value,)
    metas = [tensor for tensor in tensors if isinstance(tensor, TensorMeta)]
    dtypes = {tensor.dtype for tensor in metas}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    if dtype is None or len(metas) != len(tensors):
        raise MissingFactError("a collective's buffer was not recorded")
    return sum(tensor.numel for tensor in metas), dtype


def _ratio(collective: str, read: int, written: int | None) -> int | None:
    """The ranks of a gather or scatter: how much larger one side is."""
    if written is None or not read or not written or collective not in ("all_gather", "reduce_scatter"):
        return None
    large, small = (written, read) if collective == "all_gather" else (read, written)
    return large // small if large % small == 0 else None


def _only(group_sizes: tuple[int, ...]) -> int | None:
    larger = [size for size in group_sizes if size > 1]
    return larger[0] if len(larger) == 1 else None


def _output(collective: str, read: int, size: int | None) -> int | None:
    """The output's elements where only the input is an argument."""
    if collective == "all_gather":
        return None if size is None else read * size
    if collective == "reduce_scatter":
        return None if not size else read // size
    return read
