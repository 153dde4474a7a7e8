"""Ops that are called free really have no kernel of their own: torch's dispatcher is asked."""

import torch

from diagnose import costs
from diagnose.costs import registry

costs.load()

# Kernels that only allocate, look, or answer a question of the host: they move no element.
HOUSEKEEPING = """
    _assert_async _assert_scalar _assert_tensor_metadata _coalesced_ _conj _debug_has_internal_overlap _dimI _dimV
    _efficientzerotensor _empty_affine_quantized _empty_per_channel_affine_quantized _functional_assert_async
    _fused_sdp_choice _fw_primal _has_same_storage_numel _indices _lazy_clone _local_scalar_dense _make_dual
    _mkldnn_reshape _neg_view _nested_get_jagged_dummy _nested_get_lengths _nested_get_max_seqlen
    _nested_get_min_seqlen _nested_get_offsets _nested_get_ragged_idx _nested_get_values _nested_tensor_size
    _nested_tensor_storage_offsets _nested_tensor_strides _nested_view_from_buffer _nested_view_from_jagged
    _new_zeros_with_same_feature_meta _nnz _pin_memory _print _reshape_alias _resize_output_
    _sparse_compressed_tensor_with_dims _sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors
    _unsafe_view _use_cudnn_ctc_loss _use_miopen_ctc_loss _values alias as_strided as_strided_ ccol_indices
    col_indices crow_indices dense_dim detach diagonal dim empty empty_like empty_permuted empty_quantized
    empty_strided expand indices is_coalesced is_pinned is_same_size is_set_to lift lift_fresh new_empty
    new_empty_strided numel permute pin_memory q_per_channel_axis q_per_channel_scales q_per_channel_zero_points
    q_scale q_zero_point qscheme record_stream resize resize_ resize_as resize_as_ row_indices select set_ size slice
    sparse_compressed_tensor sparse_dim sparse_resize_ sparse_resize_and_clear_ split_with_sizes squeeze squeeze_
    stride sym_constrain_range sym_constrain_range_for_size t t_ transpose transpose_ unbind unfold unsafe_split
    unsafe_split_with_sizes unsqueeze unsqueeze_ values view view_as_complex view_as_real
"""
BACKENDS = ("CPU", "CUDA")
# Dispatched by device, yet each calls other ops for what it does: seen below it in any recording.
WRAPPERS = {"_transformer_encoder_layer_fwd", "_native_multi_head_attention", "linalg_matrix_exp"}


def _has_own_kernel(name):
    """Whether torch registers the op for a device, and not as a composition of others."""
    overloads = [known for known in torch._C._dispatch_get_all_op_names() if known.split(".")[0] == f"aten::{name}"]
    functional = [known for known in overloads if not known.endswith("out")]
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return any(has_kernel(known, backend) for known in functional for backend in BACKENDS)


def test_what_is_called_free_has_no_kernel_that_moves_elements():
    free = {name.removeprefix("aten::") for name in registry._FREE if name.startswith("aten::")}
    assert {name for name in free if _has_own_kernel(name)} - set(HOUSEKEEPING.split()) - WRAPPERS == set()


def test_compositions_that_compute_in_place_are_not_called_free():
    # Written as one kernel for every device, and yet it computes: at least this one must have a price.
    assert registry.is_priced("aten::max_pool1d")
    assert not registry.is_free("aten::aminmax")
