"""Every module of formulas has a test that derives its work a second time: a table, and what keeps it true."""

import ast
from pathlib import Path

import pytest

from diagnose import costs
from diagnose.costs import registry

costs.load()
TESTS = Path(__file__).parents[1]

# The module, and a test that finds the same numbers another way: from torch's tensors, its counter, or the definition.
DERIVED = {
    "activation": "accuracy/test_bytes_by_dispatch.py::test_all_of_the_inputs_are_read_and_all_of_the_outputs_written",
    "adaptive_pooling": "accuracy/test_movement_families.py::test_adaptive_pooling_windows_overlap_where_they_must",
    "attention": "accuracy/test_attention_family.py::test_forward_flops_are_the_two_products_of_the_plain_definition",
    "attention_backward": "accuracy/test_attention_family.py::test_backward_is_the_plain_one_and_the_weights_again",
    "batch_norm": "accuracy/test_movement_families.py::test_batch_norm_and_its_gradient",
    "convolution": "accuracy/test_convolution_family.py::test_convolution",
    "copy": "accuracy/test_movement_families.py::test_copy_reads_the_source_and_writes_the_target",
    "custom": "accuracy/test_custom_families.py::test_gated_activations",
    "custom_attention": "unit/costs/test_library_scans.py::test_xformers_attention_is_torchs_under_another_name",
    "custom_cache": "accuracy/test_custom_families.py::test_rotary_embedding",
    "custom_matmul": "accuracy/test_custom_families.py::test_scaled_products",
    "custom_scan": "unit/costs/test_library_scans.py::test_the_selective_scan_counts_its_recurrence",
    "distance": "accuracy/test_counts_by_definition.py::test_distances_between_all_pairs_of_rows",
    "embedding_bag": "property/test_window_properties.py::test_bags_of_embeddings_add_what_they_look_up",
    "fft": "property/test_family_properties.py::test_complex_transforms_of_any_dimensions",
    "filling": "accuracy/test_elementwise_families.py::test_overwriting_reads_nothing",
    "flex_attention": "unit/costs/test_library_scans.py::test_flex_attention_is_attention_over_every_pair",
    "indexing": "accuracy/test_movement_families.py::test_gather_and_take_with_expanded_indices",
    "linear_algebra":
        "accuracy/test_counts_by_definition.py::test_factorisations_have_the_textbooks_leading_term",
    "loss": "accuracy/test_counts_by_definition.py::test_losses_by_their_definition",
    "matmul": "accuracy/test_matmul_family.py::test_mm",
    "normalization": "accuracy/test_movement_families.py::test_layer_norm",
    "optimizer": "accuracy/test_optimizer_family.py::test_fused_adam",
    "padding": "property/test_family_properties.py::test_constant_padding_reads_what_it_keeps",
    "pointwise":
        "accuracy/test_elementwise_families.py::test_operations_are_those_of_the_definition_run_element_by_element",
    "pooling": "accuracy/test_movement_families.py::test_pooling_compares_the_elements_of_each_window",
    "quantization": "property/test_family_properties.py::test_to_and_from_quantised_tensors",
    "recurrent": "property/test_family_properties.py::test_a_stack_of_recurrent_layers",
    "reduction": "accuracy/test_movement_families.py::test_reductions_count_every_input_element_once",
    "resampling": "property/test_family_properties.py::test_larger_pictures_blend_their_taps",
    "sampling": "property/test_family_properties.py::test_normal_numbers_about_broadcast_means",
    "softmax": "accuracy/test_movement_families.py::test_softmax_and_its_gradient",
    "sorting": "property/test_family_properties.py::test_orderings_write_values_and_indices",
    "sparse": "property/test_family_properties.py::test_half_sparse_weights_multiply_what_they_hold",
    "triton": "property/test_triton_properties.py::test_a_pointwise_kernel_touches_what_a_loop_touches",
}  # fmt: skip

# Checked by numbers worked out by hand for one case: the op is not in torch, or cannot run on a CPU.
BY_HAND = {
    "custom_embedding": "unit/costs/test_custom.py::test_rowwise_quantisation_there_and_back",
    "custom_moe":
        "unit/costs/test_custom.py::test_experts_with_weights_have_known_flops_and_read_no_more_experts_than_rows",
    "custom_paged": "unit/costs/test_library_scans.py::test_partial_attention_merged",
    "custom_transformer_engine":
        "unit/costs/test_library_scans.py::test_transformer_engines_linear_wherever_its_arguments_stand",
    "scaled_matmul": "unit/costs/test_packed_weights.py::test_scaled_products_with_listed_scales",
}  # fmt: skip

# Prices what the recording itself says of an op's outputs; it has no formula to derive.
NO_FORMULA = {"outputs"}

DERIVATIONS = {"hypothesis", "counted", "derivation", "dispatched", "flop_counter"}


def _families():
    """Modules that register a formula, and the names they registered."""
    found: dict[str, set[str]] = {}
    for name, formula in registry._FORMULAS.items():
        found.setdefault(formula.__module__, set()).add(name)
    for _, _, formula in registry._GENERAL:
        found.setdefault(formula.__module__, set())
    prefix = "diagnose.costs."
    return {module.removeprefix(prefix): names for module, names in found.items() if module.startswith(prefix)}


def _read(entry):
    path, test = entry.split("::")
    return ast.parse((TESTS / path).read_text()), test


def test_every_family_is_in_the_table_once():
    assert not DERIVED.keys() & BY_HAND.keys()
    assert {*DERIVED, *BY_HAND} == _families().keys() - NO_FORMULA


@pytest.mark.parametrize(("family", "entry"), [*DERIVED.items(), *BY_HAND.items()])
def test_the_named_test_is_there_and_its_file_names_an_op_of_the_family(family, entry):
    tree, test = _read(entry)
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = {text.split("::")[-1] for text in constants if isinstance(text, str)}
    texts |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # called on torch
    names = {name.split("::")[-1] for name in _families()[family]}
    assert not names or names & texts


@pytest.mark.parametrize(("family", "entry"), DERIVED.items())
def test_what_is_said_to_be_derived_has_something_to_derive_it_with(family, entry):
    tree, _ = _read(entry)
    imported = {part for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for part in node.module.split(".")}
    assert imported & DERIVATIONS, family
