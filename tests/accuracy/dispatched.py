"""Every op that a function dispatches, as a recording would hold it, with the real tensors it read and returned."""

import torch
from derivation import distinct_bytes, output_bytes, value_of
from torch.utils._python_dispatch import TorchDispatchMode

from diagnose.costs.registry import price
from diagnose.work import Op, Work


class Call:
    """One dispatched op."""

    def __init__(self, op, inputs, result):
        self.op = op
        # Bytes before an in-place op changes nothing: sizes stay.
        self.read = sum(map(distinct_bytes, inputs))
        self.written = output_bytes(result)

    def work(self):
        return work_of(self.op)


def work_of(op) -> Work:
    """All of an op's phases that are not extra."""
    found = price(op)
    assert found.phases is not None, f"{op.name}: {found.reason}"
    parts = [phase.work for phase in found.phases if not phase.is_extra]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _recorded(value):
    """What a trace holds of an argument: devices, layouts and generators are written as nothing."""
    if isinstance(value, (torch.device, torch.layout, torch.memory_format, torch.Generator)):
        return None
    return value_of(value)


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = dict(kwargs or {})
        arguments = [
            args[place] if place < len(args) else given.get(argument.name, argument.default_value)
            for place, argument in enumerate(func._schema.arguments)
        ]
        tensors = [item for item in arguments if isinstance(item, torch.Tensor)]
        tensors += [item for many in arguments if isinstance(many, (list, tuple)) for item in many
                    if isinstance(item, torch.Tensor)]  # fmt: skip
        recorded = Op(func._schema.name, tuple(map(_recorded, arguments)), None, func._schema.overload_name)
        result = func(*args, **given)
        self.calls.append(Call(recorded, tensors, result))
        return result


def calls_of(function):
    """Every op that ``function`` dispatches, in order; autograd is off, so that compositions come apart."""
    with torch.no_grad(), _Recorder() as recorder:
        function()
    return recorder.calls


def call_of(name, function):
    """The last call of that op."""
    calls = calls_of(function)
    found = [call for call in calls if call.op.name == f"aten::{name}"]
    assert found, f"{name} is not among {[call.op.name for call in calls]}"
    return found[-1]
