"""Ops that do nothing themselves, and the registry as a whole."""

import pytest
import torch

from diagnose.costs import (  # noqa: F401  (registers the formulas)
    batch_norm,
    copy,
    filling,
    indexing,
    loss,
    normalization,
    optimizer,
    pointwise,
    pooling,
    reduction,
    registry,
    softmax,
)
from diagnose.costs.composition import is_frame


def test_every_registered_aten_op_exists():
    known = {schema.name for schema in torch._C._jit_get_all_schemas()}
    ours = {name for name in registry._FORMULAS.keys() | registry._FREE if name.startswith("aten::")}
    assert ours - known == set()


@pytest.mark.parametrize(
    "name", ["aten::view", "aten::empty", "aten::contiguous", "aten::softmax", "aten::item", "detach", "aten::dropout"]
)
def test_views_allocation_and_wrappers_are_free(name):
    assert registry.is_free(name)
    assert not registry.is_priced(name)


@pytest.mark.parametrize("name", ["aten::copy_", "aten::fill_", "aten::embedding", "aten::native_dropout"])
def test_what_moves_or_computes_is_not_free(name):
    assert not registry.is_free(name)


@pytest.mark.parametrize("name", [
    "PythonDispatchMode",
    "autograd::engine::evaluate_function: AddmmBackward0", "AddmmBackward0", "CudnnBatchNormBackward0",
    "torch::autograd::AccumulateGrad", "torch::autograd::CppNode<SplitLookupFunction_rowwise_adagrad_Op>",
    "torch::jit::(anonymous namespace)::DifferentiableGraphBackward", "Optimizer.step#AdamW.step",
    "Optimizer.zero_grad#SGD.zero_grad", "DistributedDataParallel.forward", "nn.Module: Linear_0", "ProfilerStep#3",
    "Torch-Compiled Region: 0/1", "CompiledFunction", "CompiledFunctionBackward", "TorchDynamo Cache Lookup",
    "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "## Call CompiledFxGraph abc ##",
])  # fmt: skip
def test_frames_only_enclose(name):
    assert is_frame(name)


@pytest.mark.parametrize("name", [
    "aten::threshold_backward", "aten::native_layer_norm_backward", "aten::mm", "vllm::moe_forward", "nccl:all_reduce",
    "record_param_comms", "fbgemm::permute_2D_sparse_data", "triton_poi_fused_0", "_C::rms_norm", "c10d::allreduce_",
])  # fmt: skip
def test_ops_are_not_frames(name):
    assert not is_frame(name)
