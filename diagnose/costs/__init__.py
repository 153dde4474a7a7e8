"""What an op must do: one room a family of ops, one short function a formula."""

from __future__ import annotations


def load() -> None:
    """Registers every family (importing a module registers its formulas, once)."""
    from diagnose.costs import (  # noqa: F401
        activation,
        adaptive_pooling,
        attention,
        attention_backward,
        batch_norm,
        collective,
        composition,
        convolution,
        copy,
        custom,
        custom_attention,
        custom_cache,
        custom_embedding,
        custom_matmul,
        custom_moe,
        distance,
        embedding_bag,
        fft,
        filling,
        indexing,
        linear_algebra,
        loss,
        matmul,
        normalization,
        optimizer,
        outputs,
        padding,
        pointwise,
        pooling,
        quantization,
        recurrent,
        reduction,
        resampling,
        sampling,
        scaled_matmul,
        softmax,
        sorting,
        sparse,
        triton,
    )
