"""Optimizer steps, switch by switch, against their update rules run on counting numbers."""

import itertools

import pytest
import torch
from counted import bigger, count, elementwise, root
from derivation import distinct_bytes, op_of
from dispatched import call_of, work_of

from diagnose import costs

costs.load()

SIZES = [(3, 4), (5,)]
COUNT = 17
SWITCHES = list(itertools.product([False, True], repeat=3))


def tensors():
    return [torch.rand(size) for size in SIZES]


def steps():
    return [torch.tensor(3.0) for _ in SIZES]


def total(*lists):
    return sum(distinct_bytes(tensor) for many in lists for tensor in many)


def columns(number):
    return [[0.5] * COUNT] * number


def adam_rule(name, decay, amsgrad, maximize):
    def rule(p, g, m, v, largest):
        if maximize:
            g = -g
        if decay:
            if name == "adamw":
                p = p * 0.999
            else:
                g = g + 0.01 * p
        m = m + 0.1 * (g - m)
        v = v * 0.999 + 0.001 * g * g
        if amsgrad:
            v = bigger(largest, v)
        return p - 0.001 * m / (root(v) / 0.9 + 1e-8)

    return rule


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize(("decay", "amsgrad", "maximize"), SWITCHES)
def test_fused_adam(name, decay, amsgrad, maximize):
    p, g, m, v, largest, at = tensors(), tensors(), tensors(), tensors(), tensors(), steps()
    operator = getattr(torch.ops.aten, f"_fused_{name}_")
    call = call_of(f"_fused_{name}_", lambda: operator(
        p, g, m, v, largest if amsgrad else [], at, lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.01 * decay, eps=1e-8,
        amsgrad=amsgrad, maximize=maximize))  # fmt: skip
    work = call.work()
    kept = [p, m, v, *([largest] if amsgrad else [])]
    flops, _ = count(elementwise(adam_rule(name, decay, amsgrad, maximize)), *columns(5))
    assert dict(work.flops) == {"vector.float32": flops}
    assert (work.bytes_read, work.bytes_written) == (total(g, at, *kept), total(*kept))


def test_an_unscaled_step_writes_the_gradients_back():
    p, g, m, v = tensors(), tensors(), tensors(), tensors()
    scale = torch.ones(1)
    call = call_of("_fused_adamw_", lambda: torch.ops.aten._fused_adamw_(
        p, g, m, v, [], steps(), lr=0.1, beta1=0.9, beta2=0.99, weight_decay=0.0, eps=1e-8, amsgrad=False,
        maximize=False, grad_scale=scale, found_inf=torch.zeros(1)))  # fmt: skip
    assert call.work().bytes_written == total(p, g, m, v)


@pytest.mark.parametrize(("decay", "momentum", "nesterov"), [row for row in SWITCHES if row[1] or not row[2]])
@pytest.mark.parametrize("is_first", [False, True])
def test_fused_sgd(decay, momentum, nesterov, is_first):
    def rule(p, g, b):
        if decay:
            g = g + 0.01 * p
        if momentum:
            b = g if is_first else 0.9 * b + 0.8 * g
            g = g + 0.9 * b if nesterov else b
        return p - 0.1 * g

    p, g, b = tensors(), tensors(), tensors()
    call = call_of("_fused_sgd_", lambda: torch.ops.aten._fused_sgd_(
        p, g, b if momentum else [], weight_decay=0.01 * decay, momentum=0.9 * momentum, lr=0.1, dampening=0.2,
        nesterov=nesterov, maximize=False, is_first_step=is_first))  # fmt: skip
    work = call.work()
    flops, _ = count(elementwise(rule), *columns(3))
    assert dict(work.flops) == {"vector.float32": flops}
    assert work.bytes_read == total(p, g) + (total(b) if momentum and not is_first else 0)
    assert work.bytes_written == total(p) + (total(b) if momentum else 0)


@pytest.mark.parametrize("decay", [False, True])
def test_fused_adagrad(decay):
    def rule(p, g, s):
        if decay:
            g = g + 0.01 * p
        s = s + g * g
        return p - 0.1 * g / (root(s) + 1e-8)

    p, g, s, at = tensors(), tensors(), tensors(), steps()
    call = call_of("_fused_adagrad_", lambda: torch.ops.aten._fused_adagrad_(
        p, g, s, at, lr=0.1, lr_decay=0.0, weight_decay=0.01 * decay, eps=1e-8, maximize=False))  # fmt: skip
    work = call.work()
    flops, _ = count(elementwise(rule), *columns(3))
    assert dict(work.flops) == {"vector.float32": flops}
    assert (work.bytes_read, work.bytes_written) == (total(p, g, s, at), total(p, s))


LISTS = [
    ("_foreach_lerp_", 3, ()), ("_foreach_mul_", 1, (0.5,)), ("_foreach_pow", 2, ()), ("_foreach_log1p", 1, ()),
    ("_foreach_trunc_", 1, ()), ("_foreach_maximum_", 2, ()), ("_foreach_clone", 1, ()),
    ("_foreach_addcdiv_", 3, (0.5,)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "count_", "rest"), LISTS)
def test_lists_are_gone_through_once(name, count_, rest):
    lists = [tensors() for _ in range(count_)]
    call = call_of(name, lambda: getattr(torch.ops.aten, name)(*lists, *rest))
    work = call.work()
    assert (work.bytes_read, work.bytes_written) == (total(*lists), total(lists[0]))


def test_a_power_with_a_number_for_its_base_has_its_list_second():
    exponents = tensors()
    work = work_of(op_of("aten::_foreach_pow", 2.0, exponents))
    assert (work.bytes_read, work.bytes_written) == (total(exponents), total(exponents))


def test_reductions_of_lists_write_a_number_a_tensor():
    lists = tensors()
    for name in ("_foreach_max", "_foreach_norm"):
        work = call_of(name, lambda name=name: getattr(torch.ops.aten, name)(lists)).work()
        assert (work.bytes_read, work.bytes_written) == (total(lists), 4 * len(lists))


def test_unscaling_checks_and_multiplies():
    gradients = tensors()
    work = work_of(op_of("aten::_amp_foreach_non_finite_check_and_unscale_", gradients, torch.zeros(1), torch.ones(1)))
    assert dict(work.flops) == {"vector.float32": 2 * COUNT}
    assert (work.bytes_read, work.bytes_written) == (total(gradients) + 8, total(gradients))


def test_tensors_cut_into_chunks_are_padded():
    lists = [torch.rand(5, 3), torch.rand(4)]
    result = torch.cat([torch.rand(6, 3).reshape(2, -1), torch.rand(4).reshape(2, -1)], 1)
    work = work_of(op_of("aten::_chunk_cat", lists, 0, 2))
    assert (work.bytes_read, work.bytes_written) == (total(lists), distinct_bytes(result))
