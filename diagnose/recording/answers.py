"""What torch knows of ops that no formula prices: asked while recording, kept in the recording.

A reader without torch then says the same as the one that recorded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from diagnose import costs
from diagnose.costs.composition import is_frame
from diagnose.costs.meta import can_answer, meta_outputs
from diagnose.costs.registry import is_free, is_priced
from diagnose.distinct import distinct
from diagnose.errors import TraceError
from diagnose.trace.chrome import parse_trace
from diagnose.trace.extras import EXTRAS_KEY, Extras, ListTensor, encode_extras
from diagnose.trace.tables import Ints, Trace
from diagnose.work import MissingFactError, TensorMeta

_OP_NAME: Final = re.compile(rb'"name":\s*"(aten::\w+)"')


def with_outputs(extras: Extras, path: Path) -> Extras:
    """The extras with the outputs of every op that has no formula; the same where all have one.

    Args:
        extras: As gathered; what they hold of the file's ops is used.
        path: The recording, still without our key.
    """
    costs.load()
    content = path.read_bytes()
    if not any(_is_unknown(name.decode()) for name in set(_OP_NAME.findall(content))):
        return extras
    try:
        trace = parse_trace(_with_key(content, extras), path.name).trace
    except TraceError:  # the reader will say what is wrong with it
        return extras
    lists: dict[tuple[ListTensor, ...], int] = {}
    outputs: dict[int, int] = {}
    signature = trace.ops.signature
    for number in _asked(trace):
        try:
            answer = tuple(_listed(tensor) for tensor in meta_outputs(trace.signatures[number]))
        except MissingFactError:
            continue
        index = lists.setdefault(answer, len(lists))
        outputs.update((external, index) for external in trace.ops.external_id[signature == number].tolist())
    return msgspec.structs.replace(extras, output_lists=tuple(lists), outputs=outputs)


def _is_unknown(name: str) -> bool:
    return not (is_priced(name) or is_free(name)) and can_answer(name)


def _with_key(content: bytes, extras: Extras) -> bytes:
    return content.rstrip()[:-1] + b',"' + EXTRAS_KEY.encode() + b'":' + encode_extras(extras) + b"}"


def _asked(trace: Trace) -> list[int]:
    """Signatures of torch's ops without a formula; an op that calls others which compute has its work done by them."""
    computes = np.array([not (is_free(name) or is_frame(name)) for name in trace.strings], np.bool_)
    unknown = np.array([_is_unknown(name) for name in trace.strings], np.bool_)
    ops = trace.ops
    above: Ints = ops.parent[computes[ops.name] & (ops.parent >= 0)]
    is_wrapper = np.zeros(len(ops.name), np.bool_)
    is_wrapper[above] = True
    found: list[int] = distinct(ops.signature[unknown[ops.name] & ~is_wrapper]).tolist()
    return found


def _listed(tensor: TensorMeta) -> ListTensor:
    return ListTensor(tensor.shape, tensor.dtype, tensor.strides)
