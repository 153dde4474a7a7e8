"""Bytes of ops that read all of their inputs and write all of their outputs, against the tensors that torch saw.

Each row dispatches a real op on real tensors: the arguments are those that a recording holds, the inputs' bytes are
counted offset by offset, the outputs are what came back.
"""

import pytest
import torch
from dispatched import call_of
from torch.nn import functional

from diagnose import costs

costs.load()

A = torch.ops.aten
X = torch.rand(2, 3, 8, 10)
CUBE = torch.rand(1, 2, 6, 5, 4)
MATRIX = torch.rand(3, 5, 5) + torch.eye(5)
SPD = MATRIX @ MATRIX.mT + torch.eye(5)
ROWS, OTHER = torch.rand(4, 3), torch.rand(6, 3)
MASK = torch.rand(4, 3) > 0.5

EVERYTHING = [
    # Pooling.
    ("max_pool3d_with_indices", lambda: A.max_pool3d_with_indices(CUBE, [2, 2, 2], [2, 1, 1], [1, 0, 1])),
    ("avg_pool3d", lambda: A.avg_pool3d(CUBE, [3, 2, 2], [2], [1, 1, 0], True)),
    ("_adaptive_avg_pool3d", lambda: A._adaptive_avg_pool3d(CUBE, [2, 2, 3])),
    ("adaptive_max_pool2d", lambda: A.adaptive_max_pool2d(X, [3, 4])),
    ("adaptive_max_pool3d", lambda: A.adaptive_max_pool3d(CUBE, [2, 3, 4])),
    ("max_unpool2d", lambda: A.max_unpool2d(*A.max_pool2d_with_indices(X, [2, 2]), [8, 10])),
    # Padding and resampling.
    ("reflection_pad1d", lambda: functional.pad(X[0], (2, 3), mode="reflect")),
    ("reflection_pad2d", lambda: functional.pad(X, (1, 2, 3, 0), mode="reflect")),
    ("reflection_pad3d", lambda: functional.pad(CUBE, (1, 1, 2, 0, 3, 1), mode="reflect")),
    ("replication_pad3d", lambda: functional.pad(CUBE, (1, 1, 2, 0, 3, 1), mode="replicate")),
    ("upsample_trilinear3d", lambda: A.upsample_trilinear3d(CUBE, [8, 7, 9], False)),
    ("upsample_linear1d", lambda: A.upsample_linear1d(X[0], [15], False)),
    ("_upsample_nearest_exact2d", lambda: A._upsample_nearest_exact2d(X, [16, 20])),
    ("_upsample_bilinear2d_aa", lambda: A._upsample_bilinear2d_aa(X, [4, 5], False)),
    ("_upsample_bicubic2d_aa", lambda: A._upsample_bicubic2d_aa(X, [4, 5], False)),
    ("upsample_bilinear2d_backward", lambda: A.upsample_bilinear2d_backward(X, [8, 10], [2, 3, 4, 4], False)),
    ("grid_sampler_2d", lambda: functional.grid_sample(X, torch.rand(2, 9, 9, 2))),
    ("grid_sampler_3d", lambda: functional.grid_sample(CUBE, torch.rand(1, 6, 9, 9, 3))),
    # Orderings, counts, searches.
    ("sort", lambda: torch.sort(X, 1)), ("topk", lambda: torch.topk(X, 2, 1)),
    ("kthvalue", lambda: torch.kthvalue(X, 2, 3, True)), ("mode", lambda: torch.mode(ROWS, 0)),
    ("median", lambda: torch.median(ROWS, 1, True)), ("nanmedian", lambda: torch.nanmedian(ROWS)),
    ("cumsum", lambda: torch.cumsum(X.to(torch.int32), 1)), ("cumprod", lambda: torch.cumprod(X, 0)),
    ("_logcumsumexp", lambda: A._logcumsumexp(X, 1)),
    ("histc", lambda: torch.histc(X, 7, 0, 1)), ("isin", lambda: torch.isin(ROWS, OTHER)),
    ("searchsorted", lambda: torch.searchsorted(torch.arange(4.0), X)),
    ("bucketize", lambda: torch.bucketize(X, torch.arange(4.0), out_int32=True)),
    ("randperm", lambda: torch.randperm(11)), ("multinomial", lambda: torch.multinomial(ROWS, 2, True)),
    ("tril_indices", lambda: torch.tril_indices(5, 7, 1)), ("triu_indices", lambda: torch.triu_indices(5, 7, -2)),
    ("aminmax", lambda: torch.aminmax(X, dim=1)),
    # Fourier.
    ("_fft_c2c", lambda: torch.fft.fft2(torch.complex(X, X))), ("_fft_r2c", lambda: torch.fft.rfft2(X)),
    ("_fft_c2r", lambda: torch.fft.irfft(torch.complex(X, X), n=11)),
    # Losses and distances.
    ("smooth_l1_loss", lambda: A.smooth_l1_loss(ROWS, ROWS, 0)), ("huber_loss", lambda: A.huber_loss(ROWS, ROWS, 0)),
    ("smooth_l1_loss_backward", lambda: A.smooth_l1_loss_backward(ROWS, ROWS, ROWS, 0, 1.0)),
    ("huber_loss_backward", lambda: A.huber_loss_backward(ROWS, ROWS, ROWS, 0, 1.0)),
    ("multi_margin_loss", lambda: A.multi_margin_loss(ROWS, torch.tensor([0, 1, 2, 0]), 1, 1, None, 0)),
    ("multilabel_margin_loss_forward", lambda: A.multilabel_margin_loss_forward(ROWS, torch.zeros(4, 3).long(), 0)),
    ("_cdist_forward", lambda: A._cdist_forward(ROWS, OTHER, 1.0, None)),
    ("_pdist_forward", lambda: functional.pdist(ROWS)),
    ("linalg_cross", lambda: torch.linalg.cross(ROWS, ROWS)),
    # Elementwise ones with shapes of their own.
    ("_prelu_kernel_backward", lambda: A._prelu_kernel_backward(ROWS, ROWS, torch.rand(4, 3))),
    ("complex", lambda: torch.complex(ROWS, ROWS)), ("polar", lambda: torch.polar(ROWS, ROWS)),
    ("angle", lambda: torch.angle(torch.complex(ROWS, ROWS))), ("hardshrink", lambda: functional.hardshrink(ROWS)),
    ("special_i0e", lambda: torch.special.i0e(ROWS)), ("gcd", lambda: torch.gcd(torch.arange(4), torch.arange(4))),
    ("frexp", lambda: torch.frexp(ROWS)), ("diag_embed", lambda: torch.diag_embed(ROWS, 1)),
    ("softshrink_backward", lambda: A.softshrink_backward(ROWS, ROWS, 0.5)), ("sinc", lambda: torch.sinc(ROWS)),
    ("_masked_softmax_backward", lambda: A._masked_softmax_backward(ROWS, ROWS, MASK, 1)),
    # Linear algebra.
    ("linalg_cholesky_ex", lambda: torch.linalg.cholesky_ex(SPD)),
    ("linalg_householder_product", lambda: torch.linalg.householder_product(MATRIX, torch.rand(3, 5))),
    ("_linalg_svd", lambda: A._linalg_svd(MATRIX[..., :3], True)), ("linalg_eig", lambda: torch.linalg.eig(MATRIX)),
    ("_linalg_eigh", lambda: A._linalg_eigh(SPD)), ("linalg_qr", lambda: torch.linalg.qr(MATRIX[..., :4])),
    ("geqrf", lambda: torch.geqrf(MATRIX)), ("lu_unpack", lambda: torch.lu_unpack(*torch.linalg.lu_factor(MATRIX))),
    # Recurrent cells, quantised tensors, embeddings.
    ("quantize_per_tensor", lambda: torch.quantize_per_tensor(ROWS, 0.1, 2, torch.quint8)),
    ("fake_quantize_per_tensor_affine_cachemask",
     lambda: A.fake_quantize_per_tensor_affine_cachemask(ROWS, 0.1, 0, 0, 255)),
    ("segment_reduce", lambda: torch.segment_reduce(ROWS, "sum", lengths=torch.tensor([1, 3]))),
    ("_transform_bias_rescale_qkv", lambda: A._transform_bias_rescale_qkv(torch.rand(2, 4, 18), torch.rand(18), 2)),
    # Statistics of a norm that runs over several ranks.
    ("batch_norm_update_stats", lambda: A.batch_norm_update_stats(X, torch.zeros(3), torch.ones(3), 0.1)),
    ("slice_scatter", lambda: A.slice_scatter(ROWS, OTHER[:2], 0, 1, 3)),
    ("fractional_max_pool2d", lambda: A.fractional_max_pool2d(X, [2, 2], [7, 9], torch.rand(2, 3, 2))),
]  # fmt: skip

# What the formulas leave out: an integer a matrix that says whether it worked, and the factors of the reflectors; and
# what an op writes besides what it returns (running statistics).
LEFT_OUT = {"linalg_cholesky_ex": 3 * 4, "geqrf": 3 * 5 * 4, "batch_norm_update_stats": -2 * 3 * 4}


@pytest.mark.parametrize(("name", "function"), EVERYTHING, ids=[name for name, _ in EVERYTHING])
def test_all_of_the_inputs_are_read_and_all_of_the_outputs_written(name, function):
    call = call_of(name, function)
    work = call.work()
    assert work.bytes_read == call.read
    assert work.bytes_written == call.written - LEFT_OUT.get(name, 0)


LIKE_THE_GRADIENT = [
    ("max_pool3d_with_indices_backward", (0, 7), lambda: A.max_pool3d_with_indices_backward(
        torch.rand(1, 2, 3, 2, 2), CUBE, [2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False,
        torch.zeros(1, 2, 3, 2, 2).long())),
    ("avg_pool3d_backward", (0,), lambda: A.avg_pool3d_backward(
        torch.rand(1, 2, 3, 2, 2), CUBE, [2, 2, 2], [2, 2, 2], [0, 0, 0], False, True, None)),
    ("_adaptive_avg_pool3d_backward", (0,),
     lambda: A._adaptive_avg_pool3d_backward(torch.rand(1, 2, 2, 2, 2), CUBE)),
    ("adaptive_max_pool2d_backward", (0, 2),
     lambda: A.adaptive_max_pool2d_backward(torch.rand(2, 3, 2, 2), X, torch.zeros(2, 3, 2, 2).long())),
    ("reflection_pad2d_backward", (0,), lambda: A.reflection_pad2d_backward(torch.rand(2, 3, 10, 12), X, [1, 1, 1, 1])),
    ("replication_pad3d_backward", (0,),
     lambda: A.replication_pad3d_backward(torch.rand(1, 2, 8, 7, 6), CUBE, [1, 1, 1, 1, 1, 1])),
    ("_upsample_bilinear2d_aa_backward", (0,),
     lambda: A._upsample_bilinear2d_aa_backward(torch.rand(2, 3, 4, 5), [4, 5], [2, 3, 8, 10], False)),
    ("unfold_backward", (0,), lambda: A.unfold_backward(torch.rand(4, 3), [6], 0, 3, 1)),
    ("rrelu_with_noise_backward", (0, 2), lambda: A.rrelu_with_noise_backward(X, X, X, 0.1, 0.3, True, False)),
    ("_cdist_backward", (0, 1, 2, 4), lambda: A._cdist_backward(torch.rand(4, 6), ROWS, OTHER, 1.0, torch.rand(4, 6))),
    ("native_batch_norm_backward", (0, 1, 2, 5, 6), lambda: A.native_batch_norm_backward(
        X, X, torch.ones(3), torch.zeros(3), torch.ones(3), torch.zeros(3), torch.ones(3), True, 1e-5,
        [True, True, True])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "read", "function"), LIKE_THE_GRADIENT, ids=[row[0] for row in LIKE_THE_GRADIENT])
def test_a_gradient_reads_only_what_it_needs_and_writes_all_of_its_result(name, read, function):
    call = call_of(name, function)
    work = call.work()
    inputs = [call.op.tensor(index) for index in read]
    assert work.bytes_read == sum(tensor.distinct_numel * tensor.itemsize for tensor in inputs)
    assert work.bytes_written == call.written


def test_both_gradients_of_a_grid_sampler_and_each_alone():
    gradient, grid = torch.rand(2, 3, 9, 9), torch.rand(2, 9, 9, 2)
    samples, taps = 2 * 9 * 9, 4

    def of(wants):
        call = call_of(
            "grid_sampler_2d_backward", lambda: A.grid_sampler_2d_backward(gradient, X, grid, 0, 0, False, wants)
        )
        return call.work()

    assert dict(of([True, False]).flops) == {"vector.float32": samples * (6 + taps) + gradient.numel() * 2 * taps}
    assert dict(of([False, True]).flops) == {"vector.float32": samples * (6 + taps) + gradient.numel() * 3 * taps}
    assert of([False, True]).bytes_written == grid.numel() * 4
    assert of([True, True]).bytes_written == (X.numel() + grid.numel()) * 4


# Scatters and look-ups: no more than what is asked for.
def test_indexing_ops_touch_what_they_name():
    target, wanted, source = torch.zeros(50, 4), torch.tensor([3, 7, 9]), torch.rand(3, 4)
    put = call_of("put_", lambda: target.put_(wanted, source[:, 0], accumulate=True)).work()
    assert (put.bytes_read, put.bytes_written) == (3 * 8 + 3 * 4 + 3 * 4, 3 * 4)
    reduced = call_of("index_reduce_", lambda: target.index_reduce_(0, wanted, source, "prod")).work()
    assert (reduced.bytes_read, reduced.bytes_written) == (3 * 8 + 3 * 16 + 3 * 16, 3 * 16)
    static = call_of("nonzero_static", lambda: torch.nonzero_static(MASK, size=5)).work()
    assert (static.bytes_read, static.bytes_written) == (MASK.numel(), 5 * 2 * 8)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("count", [6, 400])
def test_bags_of_embeddings_look_up_each_row_at_most_once(mode, count):
    table, indices, offsets = torch.rand(50, 8), torch.arange(count) % 50, torch.tensor([0, 2, 5])
    weights = torch.rand(count) if mode == "sum" else None
    call = call_of(
        "_embedding_bag_forward_only",
        lambda: functional.embedding_bag(indices, table, offsets, mode=mode, per_sample_weights=weights),
    )
    work = call.work()
    rows = len(set(indices.tolist()))
    assert work.bytes_read == rows * 8 * 4 + count * 8 + 3 * 8 + (count * 4 if mode == "sum" else 0)
    per_element = 2 if mode == "sum" else 1
    assert dict(work.flops) == {"vector.float32": count * 8 * per_element + (3 * 8 if mode == "mean" else 0)}


def test_the_gradient_of_a_bag_of_embeddings_writes_the_rows_that_were_looked_up():
    output, indices, bags = torch.rand(2, 8), torch.tensor([1, 4, 9, 11]), torch.tensor([0, 0, 1, 1])
    sizes, maxima = torch.tensor([2, 2]), torch.empty(0, dtype=torch.int64)
    call = call_of("_embedding_bag_dense_backward", lambda: A._embedding_bag_dense_backward(
        output, indices, bags, sizes, maxima, 50, False, 0, None))  # fmt: skip
    work = call.work()
    assert work.bytes_written == 4 * 8 * 4
    assert work.bytes_read == output.numel() * 4 + 4 * 8 + 4 * 8
    assert dict(work.flops) == {"vector.float32": 4 * 8}
