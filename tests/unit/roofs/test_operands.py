"""What an op's arguments say about its kernels."""

import pytest

from diagnose.roofs.operands import odd_sizes, product, strided
from diagnose.work import Op, TensorMeta


def tensor(*shape: int, dtype: str = "bfloat16", strides: tuple[int, ...] | None = None) -> TensorMeta:
    return TensorMeta(shape, dtype, strides)


def transposed(rows: int, columns: int, dtype: str = "bfloat16") -> TensorMeta:
    """[rows, columns], stored as [columns, rows]."""
    return TensorMeta((rows, columns), dtype, (1, rows))


class TestOddSizes:
    @pytest.mark.parametrize(
        ("op", "said"),
        [
            (Op("aten::mm", (tensor(5, 64), tensor(64, 128))), ()),  # m lies across: rows may be any number
            (Op("aten::mm", (tensor(64, 1027), tensor(1027, 64))), ("k = 1027 is no multiple of 8",)),
            (Op("aten::mm", (tensor(64, 64), tensor(64, 30522))), ("n = 30522 is no multiple of 8",)),
            # the weight of a linear layer lies transposed, but what is written has rows of n
            (Op("aten::addmm", (tensor(10), tensor(4, 64), transposed(64, 10))), ("n = 10 is no multiple of 8",)),
            (Op("aten::addmm", (tensor(16), tensor(4, 64), transposed(64, 16))), ()),
            # the gradient of a weight: the first operand transposed, its rows m long
            (Op("aten::mm", (transposed(30, 64), tensor(64, 64))), ("m = 30 is no multiple of 8",)),
            # 16 bytes are 16 numbers of float8, 4 of float32
            (
                Op("aten::_scaled_mm", (tensor(64, 24, dtype="float8_e4m3fn"), tensor(24, 64, dtype="float8_e4m3fn"))),
                ("k = 24 is no multiple of 16",),
            ),
            (Op("aten::mm", (tensor(64, 12, dtype="float32"), tensor(12, 4, dtype="float32"))), ()),
            # a window of a wider matrix: its rows lie 1027 apart
            (
                Op("aten::mm", (tensor(64, 64, strides=(1027, 1)), tensor(64, 64))),
                ("row pitch of [64, 64] = 1027 is no multiple of 8",),
            ),
            (Op("aten::bmm", (tensor(3, 64, 6), tensor(3, 6, 64))), ("k = 6 is no multiple of 8",)),
            (
                Op("aten::cudnn_convolution", (tensor(4, 3, 224, 224), tensor(768, 3, 16, 16))),
                ("input channels = 3 is no multiple of 8",),
            ),
            (
                Op("aten::convolution_backward", (tensor(4, 10, 8, 8), tensor(4, 16, 8, 8), tensor(10, 16, 3, 3))),
                ("output channels = 10 is no multiple of 8",),
            ),
            (
                Op("aten::_flash_attention_forward", (tensor(2, 128, 8, 60),) * 3),
                ("head size = 60 is no multiple of 8",),
            ),
            (Op("aten::add", (tensor(3, 3), tensor(3, 3))), ()),
            (Op("aten::mm", None), ()),
            (Op("aten::mm", (tensor(64, 3), None)), ()),
            (Op("aten::mm", (TensorMeta((3, 3), None), TensorMeta((3, 3), None))), ()),
        ],
        ids=lambda value: value.name if isinstance(value, Op) else "",
    )
    def test_of_what_tensor_cores_load_at_once(self, op: Op, said: tuple[str, ...]):
        assert odd_sizes(op, 16) == said


class TestStrided:
    def test_neighbours_that_lie_apart_waste_what_is_fetched(self):
        """GIVEN every fourth float32 THEN of a sector of 32 bytes two numbers are used."""
        op = Op("aten::relu", (tensor(1000, 256, dtype="float32", strides=(1024, 4)),))
        assert strided(op, 32) == "neighbours of [1000, 256] lie 4 elements apart: 8 of every 32 bytes fetched are used"
        far = Op("aten::relu", (tensor(1000, dtype="float32", strides=(64,)),))
        assert strided(far, 32) == "neighbours of [1000] lie 64 elements apart: 4 of every 32 bytes fetched are used"

    def test_a_transposing_copy_meets_one_side_crosswise(self):
        op = Op("aten::copy_", (tensor(512, 256, strides=(256, 1)), tensor(512, 256, strides=(1, 512)), False))
        assert strided(op, 32) == "neighbours of [512, 256] lie along dimension 1 in one tensor, along 0 in another"

    @pytest.mark.parametrize(
        "inputs",
        [
            (tensor(512, 256, strides=(256, 1)), tensor(512, 256, strides=(256, 1))),
            (tensor(512, 256, strides=(1, 512)), tensor(512, 256, strides=(1, 512))),  # both alike
            (tensor(512, 256), tensor(512, 256)),  # not recorded
            (tensor(512, 256, strides=(256, 1)), tensor(256, strides=(1,))),
            (tensor(512, 256, strides=(256, 1)), tensor(512, 256, strides=(0, 0))),  # a broadcast scalar
            (tensor(512, 256, strides=(256, 1)), tensor(512, 1, strides=(7, 1))),  # small
            (
                tensor(2, 8, 16, strides=(128, 16, 1)),
                tensor(2, 8, 16, strides=(16, 32, 1)),
            ),  # heads swapped, rows whole
            (tensor(1, 256, strides=(3, 1)), tensor(1, 256, strides=(1, 1))),  # one row: its stride means nothing
            (),
        ],
    )
    def test_what_is_read_in_order_is_not_called_strided(self, inputs: tuple[TensorMeta, ...]):
        assert strided(Op("aten::add", inputs), 32) is None


class TestTiles:
    def test_cover_the_result_in_the_order_that_takes_fewer(self):
        found = product(Op("aten::mm", (tensor(1000, 64), tensor(64, 256))))
        # 128 x 256: 8 x 1; 256 x 128: 4 x 2
        assert found.tiles((128, 256)) == 8
        assert found.tiles((128, 64)) == 32
        # 4 x 64 x 64 of 64 x 128: 1 x 1 each
        batch = product(Op("aten::bmm", (tensor(4, 64, 32), tensor(4, 32, 64))))
        assert (batch.m, batch.n, batch.batch, batch.tiles((64, 128))) == (64, 64, 4, 4)

    @pytest.mark.parametrize(
        "op",
        [Op("aten::add", (tensor(3, 3), tensor(3, 3))), Op("aten::mm", (tensor(3), tensor(3))), Op("aten::mm", None)],
    )
    def test_of_no_product_are_unknown(self, op: Op):
        assert product(op) is None
