"""Kernel names as people look for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnose.render.names import clean, file_line, fit, fit_kernel, short_kernel, short_op

ADD = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >"
    "(int, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul>)"
)


MULTIPLY = (
    "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::BinaryFunctor"
    "<float, float, float, at::native::binary_internal::MulFunctor<float> > >(at::TensorIteratorBase&)>(int)"
)
CLAMP = (
    "void at::native::vectorized_elementwise_kernel<4, at::native::(anonymous namespace)::launch_clamp_scalar"
    "(at::TensorIteratorBase&, c10::Scalar)::{lambda()#1}::operator()() const::{lambda(float)#1}, char*>(int)"
)
CUTLASS = "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm>(cutlass_80_tensorop_bf16_s16816gemm::Params)"
RMS_NORM = (
    "std::enable_if<(((8)>(0)))&&vllm::_typeConvert<c10::BFloat16>::exists, void>::type "
    "vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>(c10::BFloat16*, long)"
)


@pytest.mark.parametrize(
    ("name", "short"),
    [
        (ADD, "vectorized_elementwise_kernel CUDAFunctor_add"),
        (MULTIPLY, "elementwise_kernel MulFunctor"),
        (CLAMP, "vectorized_elementwise_kernel launch_clamp_scalar"),
        (CUTLASS, "cutlass_80_tensorop_bf16_s16816gemm"),
        ("void (anonymous namespace)::all_reduce_kernel<c10::BFloat16, 16>(int)", "all_reduce_kernel"),
        (RMS_NORM, "fused_add_rms_norm_kernel"),
        ("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float>(int)", "gemvx::kernel"),
        ("ncclDevKernel_Generic(ncclDevKernelArgsStorage<4096ul>)", "ncclDevKernel_Generic"),
        ("_ZN7ck_tile6kentryILi1ENS_12Rmsnorm2dFwdINS_27Rmsnorm2dFwdPipelineOnePassI", "kentry Rmsnorm2dFwd"),
        ("_ZN2ck16tensor_operation6device12_GLOBAL__N_111kernel_convINS_2abI", "kernel_conv"),
        ("Memcpy HtoD (Pinned -> Device)", "Memcpy HtoD (Pinned -> Device)"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n"),
        ("triton_poi_fused_0", "triton_poi_fused_0"),
        ("aten::addmm", "addmm"),
    ],
)
def test_a_kernel_keeps_what_a_person_looks_for(name, short):
    assert short_kernel(name) == short


@given(st.text(alphabet="abK:<>(){}[] _Z123,->", max_size=80) | st.text(max_size=40))
def test_any_name_has_a_short_form_without_control_characters(name):
    short = short_kernel(name)
    assert len(short) <= max(len(name), 1) + 1
    assert short == clean(short)


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_name_is_cut_to_its_column(name, width):
    assert len(fit(name, width)) <= width
    assert len(fit_kernel(name, width)) <= width


def test_a_cut_name_keeps_both_ends():
    assert fit("sm90_gemm_tile128_nt", 12) == "sm90_gemm…nt"


def test_a_cut_generic_kernel_keeps_what_it_was_made_for():
    assert fit_kernel(short_kernel(ADD), 24) == "vectori… CUDAFunctor_add"
    assert fit_kernel(short_kernel(ADD), 15) == "CUDAFunctor_add"
    assert fit_kernel("Memcpy HtoD (Pinned -> Device)", 14) == "Memcpy HtoD"


def test_paths_are_shown_as_files_and_ops_without_aten():
    assert file_line("/home/me/model.py:12") == "model.py:12"
    assert file_line("C:\\me\\model.py:12") == "model.py:12"
    assert file_line(None) == ""
    assert (short_op("aten::mm"), short_op("mylib::mm"), short_op(None)) == ("mm", "mylib::mm", "?")


def test_cleaning_takes_control_and_direction_characters():
    assert clean("a\x1b[31m\nb\u202e\x00 c\u200b") == "a[31m b c"
