"""Recurrent layers: two matrix products a gate and time, and the cell's elementwise work.

A layer reads its weights once for the whole sequence, the least it must do; one whose hidden state does not fit on chip
reads the recurrent ones again at every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from msgspec import Struct

from diagnose.costs.matmul import product_resource
from diagnose.costs.promotion import known_dtype, whole_argument
from diagnose.costs.registry import cost
from diagnose.costs.traffic import bytes_of, dense_bytes, operations, vector_resource
from diagnose.work import MissingFactError, Op, TensorMeta, Work, flops_of

_RELU, _TANH, _LSTM, _GRU = range(4)
_GATES: Final = {_RELU: 1, _TANH: 1, _LSTM: 4, _GRU: 3}
# A gate's sigmoid is 3 FLOPs and a special one; LSTM: 3 of them, 2 tanh, 4 for the cell; GRU: 2, 1 tanh, 7.
_CELL: Final = {_RELU: (2, 0), _TANH: (1, 1), _LSTM: (17, 5), _GRU: (13, 3)}
"""Operations an element of the hidden state and time, by cuDNN's (and torch's) number of the cell's kind."""


class _Layers(Struct, frozen=True):
    """A stack of recurrent layers.

    Attributes:
        mode: The cell.
        steps: Times summed over the batch.
        hidden, projected: Width of the state, and of what goes on (equal without a projection).
        inputs: Width of the first layer's input.
        layers, directions: How many.
    """

    mode: int
    steps: int
    hidden: int
    projected: int
    inputs: int
    layers: int
    directions: int

    @property
    def multiply_adds(self) -> int:
        """Of all gates, layers and directions."""
        later = self.projected * self.directions
        widths = self.inputs + self.projected + (self.layers - 1) * (later + self.projected)
        gates = _GATES[self.mode] * self.hidden * widths
        projection = self.hidden * self.projected * self.layers if self.projected != self.hidden else 0
        return self.steps * self.directions * (gates + projection)

    def work(self, dtype: str, passes: int) -> Work:
        """Operations; ``passes`` is 1 forward, 2 more for the gradients of inputs and of weights."""
        resource, real = product_resource(dtype)
        flops, special = _CELL[self.mode]
        cells = self.steps * self.hidden * self.layers * self.directions
        counts = {resource: 2 * self.multiply_adds * passes * real}
        vector = vector_resource(dtype)
        counts[vector] = counts.get(vector, 0) + flops * cells * passes
        return Work(flops_of({**counts, "special": special * cells}), 0, 0)


def _library_layers(op: Op, x: TensorMeta, first: int) -> _Layers:
    """CuDNN's and MIOpen's arguments from ``first`` on: mode, hidden[, projected], layers, batch first, ..., packed."""
    has_projection = op.name.startswith("aten::_cudnn")
    mode, hidden = whole_argument(op, first), whole_argument(op, first + 1)
    projected = whole_argument(op, first + 2) if has_projection else 0
    layers_at = first + 2 + has_projection
    is_both_ways = bool(op.scalar(layers_at + 4))
    steps = prod(x.shape[:-1])
    return _Layers(
        mode, steps, hidden, projected or hidden, x.shape[-1], whole_argument(op, layers_at), 1 + is_both_ways
    )


def _weights(op: Op, index: int, layers: _Layers, dtype: str) -> int:
    """Bytes of the weights: as listed, or by the sizes of the layers where the list was not recorded."""
    value = (op.inputs or ())[index]
    if isinstance(value, tuple) and value and all(isinstance(item, TensorMeta) for item in value):
        listed = [item for item in value if isinstance(item, TensorMeta)]
        return sum(dense_bytes(item.shape, item.dtype or dtype) for item in listed)
    gates = _GATES[layers.mode] * layers.hidden
    later = layers.projected * layers.directions
    widths = layers.inputs + layers.projected + (layers.layers - 1) * (later + layers.projected)
    return dense_bytes((gates * (widths + 2 * layers.layers) * layers.directions,), dtype)


def _states(op: Op, indices: Sequence[int]) -> int:
    return bytes_of(*(op.tensor_or_none(index) for index in indices))


def _output(layers: _Layers, dtype: str) -> int:
    return dense_bytes((layers.steps, layers.projected * layers.directions), dtype)


@cost("aten::_cudnn_rnn", "aten::miopen_rnn")
def library_rnn(op: Op) -> Work:
    """Shapes: x [T, B, I], weights, .., h, c?, mode, hidden, [projected,] layers, .. -> [T, B, H], states, reserve.

    FLOPs: 2 T B gates H (I + H) a layer and direction; LSTM 17 and 5 special, GRU 13 and 3, a tanh cell 1 and 1, an
    element of the state.
    Bytes: x, weights once, states; output, states, and, in training, every gate (what the reserve must hold).
    """
    x, is_cudnn = op.tensor(0), op.name == "aten::_cudnn_rnn"
    state = 4 if is_cudnn else 3
    layers = _library_layers(op, x, state + 2)
    dtype = known_dtype(x)
    states = _states(op, (state, state + 1))
    train_at = state + 2 + (6 if is_cudnn else 5)
    gates = _GATES[layers.mode] * layers.steps * layers.hidden * layers.layers * layers.directions
    reserve = dense_bytes((gates,), dtype) if op.scalar(train_at) else 0
    read = bytes_of(x) + _weights(op, 1, layers, dtype) + states
    return layers.work(dtype, 1) + Work((), read, _output(layers, dtype) + states + reserve)


@cost("aten::_cudnn_rnn_backward", "aten::miopen_rnn_backward")
def library_rnn_backward(op: Op) -> Work:
    """Shapes: x, weights, .., h, c?, output, gradients, mode, .. -> gradients of x, h, c, weights.

    FLOPs: twice the forward's products and cell (inputs, weights), the special ones not again.
    Bytes: x, output, its gradients, states, weights, gates; gradients of x, states, weights.
    """
    x = op.tensor(0)
    layers = _library_layers(op, x, 10)
    dtype = known_dtype(x)
    weights, states = _weights(op, 1, layers, dtype), _states(op, (4, 5))
    gates = _GATES[layers.mode] * layers.steps * layers.hidden * layers.layers * layers.directions
    read = bytes_of(x) + weights + states + _states(op, (6, 7, 8, 9)) + dense_bytes((gates,), dtype)
    counts = tuple(pair for pair in layers.work(dtype, 2).flops or () if pair[0] != "special")
    return Work(counts, read, bytes_of(x) + weights + states)


def _mkldnn_layers(x: TensorMeta, mode: int, hidden: int) -> _Layers:
    return _Layers(mode, prod(x.shape[:-1]), hidden, hidden, x.shape[-1], 1, 1)


@cost("aten::mkldnn_rnn_layer")
def mkldnn_rnn_layer(op: Op) -> Work:
    """One layer and direction on a CPU.

    Shapes: x [T, B, I], weights (1 to 4), h, c, reverse, lengths, mode, hidden, .. -> [T, B, H], h, c, workspace
    FLOPs: as ``library_rnn``
    Bytes: x, weights, states; output, states (the workspace's layout is the library's own)
    """
    x = op.tensor(0)
    layers = _mkldnn_layers(x, whole_argument(op, 9), whole_argument(op, 10))
    states = _states(op, (5, 6))
    read = bytes_of(x) + _states(op, (1, 2, 3, 4)) + states
    return layers.work(known_dtype(x), 1) + Work((), read, _output(layers, known_dtype(x)) + states)


@cost("aten::mkldnn_rnn_layer_backward")
def mkldnn_rnn_layer_backward(op: Op) -> Work:
    """Shapes: x, weights (1 to 4), h, c, output, h', c', gradients (10 to 12), .., mode (14), hidden (15), ..

    FLOPs: as ``library_rnn_backward``.
    Bytes: all inputs; gradients of x, weights, states.
    """
    x = op.tensor(0)
    layers = _mkldnn_layers(x, whole_argument(op, 14), whole_argument(op, 15))
    inputs = _states(op, (*range(13), 22))
    written = bytes_of(x) + _states(op, (1, 2, 3, 4, 5, 6))
    counts = tuple(pair for pair in layers.work(known_dtype(x), 2).flops or () if pair[0] != "special")
    return Work(counts, inputs, written)


@cost("aten::_cudnn_rnn_flatten_weight")
def flatten_weights(op: Op) -> Work:
    """Shapes: weights -> one buffer of all of them.

    FLOPs: none.
    Bytes: weights; as much.
    """
    tensors = op.tensor_list(0)
    if not tensors:
        raise MissingFactError("the tensors listed at argument 0 were not recorded")
    return Work((), bytes_of(*tensors), bytes_of(*tensors))


@cost("aten::_thnn_fused_lstm_cell")
def lstm_cell(op: Op) -> Work:
    """Shapes: gates of input and of state [B, 4 H], c [B, H], biases? -> h, c, workspace [B, 4 H].

    FLOPs: 4 an element of H to add the gates (4 more for each bias), 13 for three sigmoids and the cell; 5 special.
    Bytes: gates, c, biases; h, c, workspace.
    """
    gates, cell = op.tensor(0), op.tensor(2)
    biases = [op.tensor_or_none(index) for index in (3, 4)]
    flops = (4 * (1 + sum(bias is not None for bias in biases)) + 13) * cell.numel
    read = bytes_of(gates, op.tensor(1), cell, *biases)
    written = 2 * dense_bytes(cell.shape, known_dtype(cell)) + dense_bytes(gates.shape, known_dtype(gates))
    return Work(operations(known_dtype(gates), flops, 5 * cell.numel), read, written)


@cost("aten::_thnn_fused_lstm_cell_backward_impl")
def lstm_cell_backward(op: Op) -> Work:
    """Shapes: gradients of h and c, c, c', workspace [B, 4 H], has biases -> gates [B, 4 H], c, bias [4 H].

    FLOPs: 24 an element of H, and a tanh (special). The bias's sum is an op of its own.
    Bytes: all inputs; gradients of gates and c.
    """
    cell, workspace = op.tensor(2), op.tensor(4)
    read = bytes_of(op.tensor_or_none(0), op.tensor_or_none(1), cell, op.tensor(3), workspace)
    written = dense_bytes(workspace.shape, known_dtype(workspace)) + dense_bytes(cell.shape, known_dtype(cell))
    return Work(operations(known_dtype(workspace), 24 * cell.numel, cell.numel), read, written)


@cost("aten::_thnn_fused_gru_cell")
def gru_cell(op: Op) -> Work:
    """Shapes: gates of input and of state [B, 3 H], h [B, H], biases? -> h, workspace [B, 5 H].

    FLOPs: 13 an element of H, 3 more for each bias; 3 special.
    Bytes: gates, h, biases; h, workspace.
    """
    gates, state = op.tensor(0), op.tensor(2)
    biases = [op.tensor_or_none(index) for index in (3, 4)]
    flops = (13 + 3 * sum(bias is not None for bias in biases)) * state.numel
    written = 6 * dense_bytes(state.shape, known_dtype(state))
    counts = operations(known_dtype(gates), flops, 3 * state.numel)
    return Work(counts, bytes_of(gates, op.tensor(1), state, *biases), written)


@cost("aten::_thnn_fused_gru_cell_backward")
def gru_cell_backward(op: Op) -> Work:
    """Shapes: gradient [B, H], workspace [B, 5 H], has biases -> gates (2 of [B, 3 H]), h [B, H], biases.

    FLOPs: 16 an element of H. The biases' sums are ops of their own.
    Bytes: inputs; gradients of both gates and of h.
    """
    gradient, workspace = op.tensor(0), op.tensor(1)
    written = 7 * dense_bytes(gradient.shape, known_dtype(gradient))
    flops = operations(known_dtype(gradient), 16 * gradient.numel)
    return Work(flops, bytes_of(gradient, workspace), written)
