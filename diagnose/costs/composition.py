"""Ops that themselves move and compute nothing: views, allocation, wrappers around other ops, frames."""

from __future__ import annotations

import re
from typing import Final

from diagnose.costs.registry import free


def _aten(names: str) -> tuple[str, ...]:
    return tuple(f"aten::{name}" for name in names.split())


# Views change sizes and strides.
free(
    *_aten(
        "view reshape _unsafe_view _reshape_alias view_as reshape_as t t_ transpose transpose_ permute "
        "numpy_T mT adjoint expand expand_as slice select squeeze squeeze_ unsqueeze unsqueeze_ as_strided as_strided_ "
        "narrow unbind split split_with_sizes chunk tensor_split hsplit vsplit dsplit unsafe_split "
        "unsafe_split_with_sizes unsafe_chunk detach detach_ alias flatten unflatten ravel diagonal unfold movedim "
        "moveaxis swapaxes swapdims view_as_real view_as_complex real imag broadcast_to broadcast_tensors "
        "atleast_1d atleast_2d atleast_3d values indices _values _indices lift lift_fresh pin_memory is_pinned "
        "_conj _neg_view resolve_conj resolve_neg conj set_ set_data"
    ),
    "detach",
    "detach_",
)

# Allocation; where memory is also filled, an op of its own does it.
free(
    *_aten(
        "empty empty_like empty_strided empty_quantized new_empty new_empty_strided resize_ resize_as_ _resize_output_ "
        "zeros zeros_like ones ones_like full full_like new_zeros new_ones new_full scalar_tensor record_stream "
        "_efficientzerotensor empty_permuted"
    )
)

# Wrappers: the ops that they call carry the work.
free(
    *_aten(
        "to contiguous type_as cpu cuda "
        "_autocast_to_reduced_precision _autocast_to_full_precision softmax log_softmax layer_norm "
        "group_norm batch_norm instance_norm _batch_norm_impl_index _batch_norm_impl_index_backward "
        "max_pool2d adaptive_avg_pool1d adaptive_avg_pool2d avg_pool1d adaptive_avg_pool3d "
        "bernoulli dropout dropout_ feature_dropout alpha_dropout prelu relu6 relu6_ log_sigmoid "
        "rand randn rand_like randn_like randint "
        "cross_entropy_loss nll_loss nll_loss_nd nll_loss2d binary_cross_entropy_with_logits kl_div cosine_similarity "
        "one_hot index_select_backward gather_backward select_backward slice_backward "
        "embedding_backward diagonal_backward pad hstack vstack dstack "
        "column_stack row_stack meshgrid tile take_along_dim sum_to_size "
        "result_type can_cast is_floating_point is_complex is_nonzero item _local_scalar_dense is_same_size "
        "_has_compatible_shallow_copy_type _version size numel dim stride is_contiguous requires_grad_ "
        "_debug_has_internal_overlap "
        "_assert_tensor_metadata output_nr data manual_seed _nnpack_available"
    )
)

# Compositions: torch has one kernel of them for every device, made of the ops below (its dispatcher says so; a test
# asks it).
free(
    *_aten(
        "__iand__ __ior__ __ixor__ _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long "
        "_cast_Short _convolution_double_backward _embedding_bag_sparse_backward _gather_sparse_backward "
        "_is_zerotensor _lu_with_info _pack_padded_sequence_backward _pad_circular _pad_enum _pad_packed_sequence "
        "_sparse_mm _thnn_differentiable_gru_cell_backward _thnn_differentiable_lstm_cell_backward "
        "_thnn_fused_lstm_cell_backward _to_cpu _use_cudnn_rnn_flatten_weight _weight_norm "
        "_weight_norm_differentiable_backward absolute absolute_ adaptive_max_pool1d affine_grid_generator_backward "
        "alpha_dropout_ arccos arccos_ arccosh arccosh_ arcsin arcsin_ arcsinh arcsinh_ arctan arctan2 arctan2_ "
        "arctan_ arctanh arctanh_ argwhere cartesian_prod cdist chalf coalesce combinations conv_tbc_backward "
        "corrcoef cosine_embedding_loss cov cross ctc_loss cummaxmin_backward cumprod_backward cumulative_trapezoid "
        "det diag diagflat diff embedding_bag embedding_sparse_backward fake_quantize_per_channel_affine "
        "fake_quantize_per_channel_affine_cachemask_backward fake_quantize_per_tensor_affine "
        "fake_quantize_per_tensor_affine_cachemask_backward feature_alpha_dropout feature_alpha_dropout_ "
        "feature_dropout_ fft_fft fft_fft2 fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 "
        "fft_ifftn fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 "
        "fft_rfftn fill_diagonal_ fix fix_ flatten_dense_tensors fliplr flipud float_power float_power_ "
        "frobenius_norm fused_moving_avg_obs_fake_quant get_device gradient greater greater_ greater_equal "
        "greater_equal_ grid_sampler gru gru_cell hinge_embedding_loss infinitely_differentiable_gelu_backward "
        "inverse is_conj is_inference is_leaf is_neg is_signed isclose isreal istft kron less less_ less_equal "
        "less_equal_ linalg_cholesky linalg_cond linalg_det linalg_diagonal linalg_eigh linalg_eigvalsh linalg_inv "
        "linalg_ldl_factor linalg_lu_factor linalg_matrix_norm linalg_matrix_power linalg_matrix_rank linalg_norm "
        "linalg_slogdet linalg_solve linalg_solve_ex linalg_svd linalg_svdvals linalg_vander logdet lstm lstm_cell "
        "lu_solve mH margin_ranking_loss masked_select_backward matrix_H matrix_exp matrix_exp_backward matrix_power "
        "max_pool1d_with_indices max_pool3d multilabel_margin_loss nanmean nanquantile negative negative_ "
        "nested_to_padded_tensor nonzero_numpy norm_except_dim not_equal not_equal_ nuclear_norm orgqr pad_sequence "
        "pairwise_distance pdist pinverse poisson_nll_loss positive qr quantile rnn_relu rnn_relu_cell rnn_tanh "
        "rnn_tanh_cell rrelu rrelu_ slogdet smm sparse_bsc_tensor sparse_bsr_tensor sparse_csc_tensor "
        "sparse_csr_tensor special_digamma special_erf special_erfc special_erfinv special_exp2 special_expit "
        "special_expm1 special_gammainc special_gammaincc special_gammaln special_i0 special_log1p "
        "special_log_softmax special_logit special_logsumexp special_multigammaln special_ndtr special_polygamma "
        "special_psi special_round special_sinc special_softmax special_xlogy stft storage_offset svd swapaxes_ "
        "swapdims_ sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride to_dense to_dense_backward "
        "to_mkldnn_backward to_sparse to_sparse_bsc to_sparse_bsr to_sparse_csc to_sparse_csr trace_backward "
        "trapezoid trapz triplet_margin_loss true_divide_ unflatten_dense_tensors value_selecting_reduction_backward "
        "vander"
    )
)

# The same under another name in the dispatcher: made of the ops below on every device, yet free to be overridden.
free(
    *_aten(
        "_unsafe_index _unsafe_index_put copy fill zero uniform random exponential geometric cauchy log_normal "
        "normal_functional embedding_renorm masked_scatter index_fill randint_like lift_fresh_copy _index_put_impl "
        "resize resize_as set _euclidean_dist linalg_matrix_exp max_pool2d_backward _pin_memory "
        "cudnn_is_acceptable promote_types _shape_as_tensor _reshape_from_tensor is_vulkan_available "
        "_native_multi_head_attention _transformer_encoder_layer_fwd masked_scatter_backward "
        "hann_window hamming_window blackman_window bartlett_window affine_grid_generator block_diag allclose "
        "fft_fftfreq fft_rfftfreq linalg_pinv "
        "_assert_async _functional_assert_async is_coalesced _nnz _dimI _dimV sparse_dim dense_dim is_set_to "
        "_lazy_clone _fused_sdp_choice _use_cudnn_ctc_loss _use_miopen_ctc_loss _assert_scalar "
        "sym_constrain_range sym_constrain_range_for_size _nested_get_offsets _nested_get_values _nested_get_lengths "
        "_nested_get_ragged_idx _nested_get_min_seqlen _nested_get_max_seqlen _nested_view_from_jagged "
        "_nested_view_from_buffer _nested_get_jagged_dummy _nested_tensor_size _nested_tensor_strides "
        "_nested_tensor_storage_offsets crow_indices col_indices ccol_indices row_indices _coalesced_ q_scale "
        "q_zero_point q_per_channel_scales q_per_channel_zero_points q_per_channel_axis qscheme "
        "_has_same_storage_numel _fw_primal _make_dual _print "
        "sparse_compressed_tensor sparse_coo_tensor _sparse_coo_tensor_with_dims "
        "_sparse_coo_tensor_with_dims_and_tensors _sparse_compressed_tensor_with_dims sparse_resize_ "
        "sparse_resize_and_clear_ _empty_affine_quantized "
        "_empty_per_channel_affine_quantized _new_zeros_with_same_feature_meta _mkldnn_reshape"
    )
)

_FRAMES: Final = re.compile(
    r"""autograd::engine::evaluate_function:\s
      | torch::autograd::
      | torch::jit::.*Backward$
      | (?:\w+::)*\w*Backward(?:\d+|FromForward)?$      # a node of the autograd graph
      | Optimizer\.
      | (?:DistributedDataParallel|FullyShardedDataParallel|DataParallel|FSDP)\b
      | nn\.Module:\s
      | ProfilerStep\#
      | \#\#\sCall\s | Call\sCompiledFxGraph
      | Torch-Compiled\sRegion | TorchDynamo\sCache\sLookup | Pregraph\sbytecode | AOTDispatcher\s
      | CompiledFunction
      | enumerate\(DataLoader\)
      | <(?:forward|backward)\sop>$
      | _NoopSaveInputs$
      | Python(?:DispatchMode|Subclass)$       # torch hands a call to Python code
    """,
    re.VERBOSE,
)


def is_frame(name: str) -> bool:
    """Whether the event only encloses ops: autograd's nodes, optimizers, wrappers of modules, compiled regions."""
    # A name with the namespace of ops is an op, whatever follows.
    return not name.startswith("aten::") and _FRAMES.match(name) is not None
