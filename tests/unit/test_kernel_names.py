"""What names say: a table of real names, and the names that look alike and mean something else."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from diagnose.kernel_names import copy_direction, is_pageable, read_name

COLLECTIVES = (
    ("ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all_gather"),
    ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all_reduce"),
    ("ncclDevKernel_ReduceScatter_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "reduce_scatter"),
    ("ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)", "other"),
    ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclDevComm*, unsigned long, ncclWork*)", "all_reduce"),
    ("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)", "send_recv"),
    ("ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)", "broadcast"),
    ("ncclSymkDevKernel_AllReduce_AGxLL_R_sum_bf16(ncclSymkDevWorkArgs4K)", "all_reduce"),
    ("void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(c10::BFloat16*)", "all_reduce"),
    ("void c10d::symmetric_memory::multimem_one_shot_all_reduce_kernel<float>(float*)", "all_reduce"),
    ("void two_shot_all_reduce_kernel<c10::BFloat16, 16, 8>(c10::BFloat16**)", "all_reduce"),
    ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(vllm::RankData*)", "all_reduce"),
    ("void vllm::cross_device_reduce_2stage<half, 4>(vllm::RankData*)", "all_reduce"),
    ("void tensorrt_llm::kernels::oneShotAllReduceKernel<__nv_bfloat16>(AllReduceParams)", "all_reduce"),
    ("nvshmemi_barrier_all_kernel(int)", "barrier"),
    ("void deep_ep::intranode::dispatch<8, 768, 8192>(int4*, float*)", "all_to_all"),
    ("void deep_ep::internode_ll::combine<false, 7168, 9>(void*, void*)", "all_to_all"),
    (
        "void (anonymous namespace)::two_shot_all_reduce_kernel_inplace<c10::BFloat16, 16, 2>(c10::BFloat16**)",
        "all_reduce",
    ),
    ("void (anonymous namespace)::multimem_all_gather_kernel<16>(char*, char*, unsigned int**)", "all_gather"),
    ("void (anonymous namespace)::reduce_scatter_kernel<c10::BFloat16, 16, 8>(c10::BFloat16*)", "reduce_scatter"),
    ("c10d::symmetric_memory::barrier_kernel(unsigned int**, int, int, int, unsigned long)", "barrier"),
    ("void aiter::cross_device_reduce_2stage_naive<__hip_bfloat16, 8>(aiter::RankData*)", "all_reduce"),
    ("void aiter::reduce_scatter_cross_device_store<__hip_bfloat16, 8>(aiter::RankData*)", "reduce_scatter"),
    (
        "void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport<__nv_bfloat16, 8>(P)",
        "all_reduce",
    ),
    (
        "void flashinfer::trtllm_moe_allreduce_fusion::moereduce_allreduce_fusion_kernel_oneshot_lamport<half>(P)",
        "all_reduce",
    ),
    ("void flashinfer::oneshotAllreduceFusionKernel<8, __nv_bfloat16, true>(__nv_bfloat16*)", "all_reduce"),
    (
        "void quickreduce::allreduce_prototype_twoshot<quickreduce::AllReduceTwoshot<half>, half>(half const*)",
        "all_reduce",
    ),
    ("void mscclpp::collective::allreduceNvlsBlockPipeline<__half>(void const*)", "all_reduce"),
    ("void sglang::allreduce_LL_1node<__nv_bfloat16>(mscclpp::DeviceHandle<mscclpp::MemoryChannel>*)", "all_reduce"),
    ("mscclKernel_Sum_half_LL_false(ncclDevComm*, mscclAlgoShmem)", "other"),
    ("userbuffers_fp16_sum_inplace_gpu_rr_rs_oop(int, int, int)", "other"),
)

NO_COLLECTIVES = (
    "triton_poi_fused_all_reduce_wait_tensor_0",
    "triton_red_fused_add_all_gather_into_tensor_mul_sum_3",
    "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>(at::native::ReduceOp<float>)",
    "void cudnn::cnn::reduce_wgrad_nchw_helper<float, float>(void*, void const*, float, int, int)",
    "my_fast_broadcast_add_kernel",
    "void cub::DeviceReduceByKeyKernel<cub::DispatchReduceByKey<long*>>(long*)",
    "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<2>>()",
    "reduce_segments",
    "void fused_norm_kernel<float>(float*, nvshmem_team_t)",
    "void transport_check(ncclDevComm*, ncclKernelArgs)",
    "void at::native::_scatter_gather_elementwise_kernel<128, 8, at::native::ReduceAdd>(int)",
    "void scatter_reduce_kernel<float>(float*)",
    "void at::native::broadcast_kernel<float>(float*)",
    "void aiter::dynamic_per_group_scaled_quant_kernel<__hip_bfloat16>(float*)",
    "void flashinfer::norm::FusedAddRMSNormKernel<8, __nv_bfloat16>(__nv_bfloat16*)",
    "void deep_ep::layout::get_dispatch_layout<128, 8, 32>(long const*)",
    "barrier_kernel",
)


@pytest.mark.parametrize(("name", "kind"), COLLECTIVES)
def test_collectives(name: str, kind: str):
    facts = read_name(name)
    assert facts.is_collective
    assert facts.collective == kind


@pytest.mark.parametrize("name", NO_COLLECTIVES)
def test_what_only_sounds_like_one(name: str):
    assert not read_name(name).is_collective


CUTLASS_TF32 = "cutlass_80_tensorop_s1688gemm_128x256_32x3_nt_align4"
CUTLASS_BF16 = "cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x64_64x6_tn_align8"
TENSILE = "Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT128x144x64_MI16x16x1_SN_LDSB1"
SM90 = "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel"

CUTLASS_3X = (
    "void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel::GemmUniversal<"
    "cute::tuple<int, int, int, int>, cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarp"
    "SpecializedFP8<5>, cute::tuple<cute::C<128>, cute::C<128>>, cutlass::float_e4m3_t>>>>(T)"
)

# name, tensor core, arithmetic, tile
PRODUCTS = (
    (SM90, True, "bfloat16", (128, 128)),
    ("nvjet_tst_192x8_64x8_4x1_v_bz_TNT", True, "bfloat16", (192, 8)),
    ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NNT", True, "float16", (128, 256)),
    ("nvjet_qqtst_128x128_128x4_2x1_v_bz_TNT", True, "float8", (128, 128)),
    (f"void cutlass::Kernel<{CUTLASS_TF32}>({CUTLASS_TF32}::Params)", True, "tfloat32", (128, 256)),
    (f"void cutlass::Kernel2<{CUTLASS_BF16}>({CUTLASS_BF16}::Params)", True, "bfloat16", (128, 64)),
    ("void cutlass::Kernel<cutlass_80_tensorop_f16_s1688gemm_f16_64x64_nn_align8>(P)", True, "float16", (64, 64)),
    ("void cutlass::Kernel<cutlass_80_simt_sgemm_128x32_8x5_nn_align1>(Params)", False, "float32", (128, 32)),
    ("cutlass3x_sm90_tensorop_s64x128x16gemm_bf16_bf16_f32_void_bf16_128x128x64_2x1x1", True, "bfloat16", (128, 128)),
    ("volta_sgemm_128x64_nn", False, "float32", (128, 64)),
    ("ampere_sgemm_32x128_tn", False, "float32", (32, 128)),
    ("ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", True, "bfloat16", (128, 256)),
    ("ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_f2f_stages_64x5_nn", True, "float16", (64, 64)),
    ("turing_h1688gemm_128x128_ldg8_nn", True, "float16", (128, 128)),
    ("volta_h884gemm_256x64_ldg8_tn", True, "float16", (256, 64)),
    ("volta_fp16_s884gemm_fp16_128x128_ldg8_f2f_nn", True, "float16", (128, 128)),
    ("volta_dgemm_128x64_nn", False, "float64", (128, 64)),
    ("void cutlass::Kernel<cutlass_80_tensorop_d884gemm_64x64_16x4_nn_align1>(P)", True, "float64", (64, 64)),
    ("cudnn_infer_volta_scudnn_128x64_relu_small_nn_v1", False, "float32", (128, 64)),
    ("sm80_xmma_fprop_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nchw_tilesize128x128x16_stage4", True,
     "tfloat32", (128, 128)),
    (TENSILE, True, "bfloat16", (128, 144)),
    ("Cijk_Ailk_Bljk_SB_MT64x64x16_SE_1LDSB0_APM1", False, "float32", (64, 64)),
    ("igemm_fwd_gtcx3_nhwc_bf16_bx0_ex1_bt128x64x32_wt32x32x8_ws1x1", True, "bfloat16", (128, 64)),
    ("bmm_MxE4m3_MxE2m1MxE4m3_Fp32_t128x16x256u2_s3_et128x16_sm100f", True, "float8", (128, 16)),
    ("_matmul_ogs_NNT_bf16xbf16xmxfp4_16x128x256x1_swiglu", None, "bfloat16", (16, 128)),
    ("triton_tem_fused_addmm_3", None, None, None),
    ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t>>()", True,
     "bfloat16", None),
    ("ampere_gcgemm_64x64_nt", False, None, (64, 64)),
    ("cutlass3x_sm100_tensorop_h256x128x16gemm_f16_f16_f32_void_f16_256x128x64_2x1x1", True, "float16", (256, 128)),
    (CUTLASS_3X, True, "float8", None),
    ("void wgmma_bf16_matmul_kernel<128, 256>(Params)", True, "bfloat16", None),
    ("void flash::flash_fwd_sm90_kernel<bf16, hdim128>(Params)", True, "bfloat16", None),
    ("Cijk_Alik_Bljk_F8BS_BH_Bias_MT256x256x128_MI16x16x1_SN", True, "float8", (256, 256)),
    ("_ZN2ck16tensor_operation6device12_GLOBAL__N_1kernel_gemm_xdl_cshuffle_v3_bf16", True, "bfloat16", None),
    ("void mfma_f16_gemm<32, 32>(Args)", True, "float16", None),
)  # fmt: skip


@pytest.mark.parametrize(("name", "is_tensor_core", "arithmetic", "tile"), PRODUCTS)
def test_matrix_products(name: str, is_tensor_core: bool | None, arithmetic: str | None, tile: tuple[int, int] | None):
    facts = read_name(name)
    assert facts.is_gemm
    assert (facts.is_tensor_core, facts.arithmetic, facts.tile) == (is_tensor_core, arithmetic, tile)


@pytest.mark.parametrize(
    "name",
    [
        "void gemvNSP_kernel<float, float, float, float, 1, 32, 4, 1024>(Params)",
        "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float, float>(Params)",
        "void gemv2T_kernel_val<int, int, __half, __half, __half, float>(Params)",
        "void gemmk1_kernel<float, 256, 5, false, false, false, false>(Params)",
    ],
)
def test_matrix_vector_products_use_no_tensor_cores(name: str):
    facts = read_name(name)
    assert facts.is_gemv
    assert not facts.is_gemm
    assert facts.is_tensor_core is False


@pytest.mark.parametrize(
    "name",
    [
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)",
        "void fbgemm_gpu::permute_2D_lengths_kernel<int>(int, int, int const*, int const*, int*)",
        "cask_cudnn_train::computeWgradSplitKOffsetsKernel(cask_cudnn_train::ComputeSplitKOffsetsParams)",
        "void splitKreduce_kernel<32, 16, int, float, float, float, float, true>(cublasSplitKParams<float>)",
        "triton_poi_fused_addmm_gelu_0",
        "triton_per_fused_native_layer_norm_2",
        "",
    ],
)
def test_what_is_no_product(name: str):
    facts = read_name(name)
    assert (facts.is_gemm, facts.is_gemv, facts.is_tensor_core, facts.arithmetic) == (False, False, None, None)


@pytest.mark.parametrize(
    ("name", "is_strided"),
    [
        ("void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<AddFunctor>>(int, T)", True),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>(int)", False),
        ("void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>(int)", False),
        ("void at::native::index_elementwise_kernel<128, 4, at::native::gpu_index_kernel<T>>(long)", False),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 4, 64, 64>()", True),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy_contig<float, unsigned int, 2>()", False),
        ("void at::native::(anonymous namespace)::CatArrayBatchedCopy_aligned16_contig<OpaqueType<2u>>()", False),
    ],
)
def test_kernels_for_tensors_that_are_not_contiguous(name: str, is_strided: bool):
    assert read_name(name).is_strided is is_strided


@pytest.mark.parametrize(
    ("name", "is_persistent"),
    [
        ("nvjet_tst_144x128_64x6_2x1_v_bz_bias_TNN", True),
        ("fmhaSm100aKernel_QkvE4m3OBfloat16H64PagedKvCausalP16VarSeqQ128Kv128PersistentContext", True),
        ("Cijk_Ailk_Bljk_BBS_BH_MT256x256x64_MI16x16x1_SK3_LDSB1", True),
        (TENSILE, False),
        ("triton_per_fused_sum_0", False),  # a persistent reduction is another thing
        ("volta_sgemm_128x64_nn", False),
    ],
)
def test_persistent_kernels(name: str, is_persistent: bool):
    assert read_name(name).is_persistent is is_persistent


@pytest.mark.parametrize(
    ("name", "is_split_k"),
    [
        ("cudnn_train_volta_scudnn_128x128_stridedB_splitK_medium_nn_v1", True),
        ("void splitKreduce_kernel<32, 16, int, float>(cublasSplitKParams<float>)", True),
        ("Cijk_Ailk_Bljk_BBS_BH_MT64x64x64_MI16x16x1_GSU8_PGR1", True),
        ("Cijk_Ailk_Bljk_BBS_BH_MT64x64x64_MI16x16x1_GSU1_PGR1", False),
        ("void flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<128>>()", False),  # cuts the keys, no inner dimension
    ],
)  # fmt: skip
def test_split_k(name: str, is_split_k: bool):
    assert read_name(name).is_split_k is is_split_k


@pytest.mark.parametrize(
    ("name", "is_layout"),
    [
        ("void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true, (cudnnKernelDataType_t)2>()", True),
        ("void cudnn::ops::nhwcToNchwKernel<float, float, float, true, false, (cudnnKernelDataType_t)0>()", True),
        ("batched_transpose_32x16_half", True),
        ("transpose_CNHW2NCHW_V2_2D_WG_off64", True),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>()", False),
        ("void at::native::(anonymous namespace)::max_pool_forward_nchw<float, float>(int)", False),
    ],
)
def test_layout_changes(name: str, is_layout: bool):
    assert read_name(name).is_layout is is_layout


def test_fills():
    assert read_name("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)").is_set
    assert read_name("_combined_routing_memset").is_set
    assert not read_name("void at::native::(anonymous namespace)::masked_fill_kernel(int)").is_set


@pytest.mark.parametrize(
    ("name", "direction", "pageable"),
    [
        ("Memcpy HtoD (Pageable -> Device)", "host_to_device", True),
        ("Memcpy HtoD (Pinned -> Device)", "host_to_device", False),
        ("Memcpy HtoD (Host -> Device)", "host_to_device", None),
        ("Memcpy DtoH (Device -> Pageable)", "device_to_host", True),
        ("Memcpy DtoH (Device -> Pinned)", "device_to_host", False),
        ("Memcpy DtoD (Device -> Device)", "device_to_device", None),
        ("Memcpy PtoP (Device -> Device)", "peer", None),
        ("Memcpy HtoH (Pageable -> Pageable)", "host_to_host", True),
        ("CopyHostToDevice", "host_to_device", None),
        ("CopyDeviceToHost", "device_to_host", None),
        ("CopyDeviceToDevice", "device_to_device", None),
        ("Memcpy Unknown", None, None),
        ("Memset (Device)", None, None),
    ],
)
def test_copies(name: str, direction: str | None, pageable: bool | None):
    assert copy_direction(name) == direction
    assert is_pageable(name) is pageable


@pytest.mark.parametrize(
    "part", ["cudnn", "xmma_", "userbuffers_", "Cijk_", "_MI", "(", "multimem_all_reduce", "é\x00"]
)
def test_a_hostile_name_costs_next_to_nothing(part: str):
    # Linear work on 4,000 characters; without a limit, quadratic work on a million would never end.
    assert read_name(part * 250_000) == read_name((part * 250_000)[:4000])


TRACES = Path(os.environ.get("DIAGNOSE_TRACES", Path(__file__).parents[2].parent / "shared" / "traces"))


@pytest.mark.skipif(not TRACES.is_dir(), reason="the real traces are not here")
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("b200_vllm_moe_tp8_rank0", {"all_reduce": 73, "all_gather": 1}),  # 73 of them not named nccl
        ("a100_resnet_ddp_rank0", {"all_reduce": 15, "broadcast": 6}),
        ("a100_ranks_sampled_rank0", {"send_recv": 10}),
        ("h100_vit_bf16_b4", {}),
    ],
)
def test_collectives_of_real_traces(file: str, expected: dict[str, int]):
    with gzip.open(TRACES / f"{file}.json.gz") as stream:
        events = json.load(stream)["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "kernel"]
    assert Counter(kind for name in names if (kind := read_name(name).collective)) == expected
