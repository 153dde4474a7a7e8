"""torch's own shape functions as a fallback: what an op without a formula puts out, by running it on meta tensors.

They compute no value and allocate no memory. Names come from torch's registry, never from the trace: a recorded name
is only looked up among them. Allowed are ``aten`` overloads that have a shape function of their own, take a tensor,
and take no text, storage or stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from msgspec.structs import replace

from diagnose.costs.outputs import by_outputs
from diagnose.costs.promotion import dtype_argument, is_python_number
from diagnose.costs.registry import Phase, Price
from diagnose.work import ITEMSIZE, MissingFactError, Op, TensorMeta, Value

_FORBIDDEN: Final = ("str", "Storage", "Stream", "Dimname", "__torch__", "AnyEnumType", "Future")
_LEFT_OUT: Final = ("Generator", "Device")
"""Types of arguments that do not decide any shape: always passed as None."""

_MOST_SIZES, _MOST_TENSORS = 64, 10_000


def meta_price(op: Op) -> Price:
    """The bytes of an op without a formula; its FLOPs stay unknown. Never raises for what a trace may hold."""
    try:
        return Price((Phase(by_outputs(replace(op, outputs=meta_outputs(op)))),))
    except MissingFactError as missing:
        return Price(None, str(missing))


def can_answer(name: str) -> bool:
    """Whether torch may be asked about ops of that name."""
    return name in _allowed()


def meta_outputs(op: Op) -> tuple[TensorMeta, ...]:
    """What the op puts out; nothing for views.

    Raises:
        MissingFactError: torch has no shape function for it, or not for such arguments.
    """
    import torch

    if op.inputs is None:
        raise MissingFactError("shapes were not recorded")
    if not op.name.startswith("aten::"):
        raise MissingFactError("no formula for this op, and it is not torch's own")
    reason = "no formula for this op, and torch has no shape function for it"
    for overload in _overloads(op):
        try:
            arguments, named = _arguments(op, overload._schema)  # noqa: SLF001 - no public door to a schema
            with torch.no_grad():
                found = overload(*arguments, **named)
            return _described(found, overload._schema)  # noqa: SLF001
        except MissingFactError as missing:
            reason = str(missing)
        except Exception as error:  # noqa: BLE001 - shape functions raise whatever they like for what does not fit
            reason = f"torch's shape function refused its arguments ({type(error).__name__})"
    raise MissingFactError(reason)


def _overloads(op: Op) -> Iterator[Any]:
    """The allowed overloads that take as many arguments as were recorded, or more, the closest first."""
    count = len(op.inputs or ())
    fitting = [
        overload
        for overload in _allowed().get(op.name, ())
        if len(_schema(overload).arguments) >= count and op.overload in (None, overload._overloadname)  # noqa: SLF001
    ]
    yield from sorted(fitting, key=lambda overload: len(_schema(overload).arguments))


def _schema(overload: Any) -> Any:
    return overload._schema  # noqa: SLF001


@cache
def _allowed() -> dict[str, list[Any]]:
    """The allow-list: op names as traces have them, and their overloads."""
    import torch

    found: dict[str, list[Any]] = {}
    for full in sorted(torch._C._dispatch_get_registrations_for_dispatch_key("Meta")):  # noqa: SLF001
        namespace, _, rest = full.partition("::")
        base, _, name = rest.partition(".")
        if namespace != "aten":
            continue
        packet = getattr(torch.ops.aten, base, None)
        overload = getattr(packet, name or "default", None)
        if overload is not None and _is_allowed(overload._schema):  # noqa: SLF001
            found.setdefault(f"aten::{base}", []).append(overload)
    return found


def _is_allowed(schema: Any) -> bool:
    """Takes a tensor and nothing that reaches outside, gives tensors; ``out=`` overloads are none of ours."""
    types = [str(argument.type) for argument in schema.arguments]
    if any(word in spelled for spelled in types for word in _FORBIDDEN) or not any("Tensor" in t for t in types):
        return False
    if any(argument.is_out for argument in schema.arguments):
        return False
    return bool(schema.returns) and all("Tensor" in str(value.type) for value in schema.returns)


def _arguments(op: Op, schema: Any) -> tuple[list[Any], dict[str, Any]]:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for index, (argument, value) in enumerate(zip(schema.arguments, op.inputs or (), strict=False)):
        given = _value(op, index, str(argument.type), argument.name, value)
        if argument.kwarg_only:
            named[argument.name] = given
        else:
            positional.append(given)
    return positional, named


def _value(op: Op, index: int, spelled: str, name: str, value: Value) -> Any:
    """One recorded argument as torch takes it."""
    if value is None or any(word in spelled for word in _LEFT_OUT) or name in ("layout", "memory_format"):
        return None
    if isinstance(value, TensorMeta):
        if "Tensor" not in spelled:
            raise MissingFactError(f"argument {index} is not a tensor in torch's schema")
        return _number(value) if is_python_number(value, index) else _tensor(value)
    if isinstance(value, tuple):
        if len(value) > _MOST_TENSORS:
            raise MissingFactError(f"argument {index} is too long a list")
        return [_tensor(item) if isinstance(item, TensorMeta) else item for item in value]
    if isinstance(value, (bool, int, float)):
        if "Tensor" in spelled:
            raise MissingFactError(f"argument {index} is a tensor in torch's schema")
        return _dtype(dtype_argument(op, index)) if name in ("dtype", "out_dtype", "output_dtype") else value
    raise MissingFactError(f"argument {index} was not recorded")


def _number(value: TensorMeta) -> float | int:
    """Stands for a Python number that was recorded as a 0-dim tensor."""
    return 1 if value.dtype == "int64" else 1.0


def _dtype(name: str | None) -> Any:
    import torch

    if name is None or name not in ITEMSIZE:
        raise MissingFactError("the dtype of a tensor was not recorded")
    return getattr(torch, name)


def _tensor(meta: TensorMeta) -> Any:
    import torch

    if len(meta.shape) > _MOST_SIZES:
        raise MissingFactError("a tensor with too many dimensions")
    dtype = _dtype(meta.dtype)
    if meta.strides is None:
        return torch.empty(meta.shape, dtype=dtype, device="meta")
    return torch.empty_strided(meta.shape, meta.strides, dtype=dtype, device="meta")


def _described(found: Any, schema: Any) -> tuple[TensorMeta, ...]:
    """The tensors given back, without views of the inputs; one written in place is an output."""
    results = found if isinstance(found, tuple) else (found,)
    outputs: list[TensorMeta] = []
    for value, returned in zip(results, schema.returns, strict=False):
        alias = returned.alias_info
        if alias is not None and not alias.is_write:
            continue
        tensors = value if isinstance(value, (list, tuple)) else [value]
        outputs += [_meta(tensor) for tensor in tensors if tensor is not None]
    return tuple(outputs)


def _meta(tensor: Any) -> TensorMeta:
    if tensor.device.type != "meta":
        raise MissingFactError("torch's shape function gave no shape")
    return TensorMeta(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tuple(tensor.stride()))
