"""``what_if``: the textbook cases by their own formulas, each change by hand, and what is refused."""

from __future__ import annotations

import io
import json

import pytest

from diagnose.devices.detect import lookup
from diagnose.errors import UnknownDeviceError, UsageError
from diagnose.predictions.prediction import batch_of
from diagnose.reading import read
from diagnose.report import Report
from diagnose.roofs.ceilings import Ceilings, from_spec
from tests.builders import TraceBuilder, dense

H100 = "NVIDIA H100 80GB HBM3"
WIDTH = 8192
ELEMENTWISE = "void at::native::vectorized_elementwise_kernel<4, add>()"


def ceilings_of(name: str) -> Ceilings:
    return from_spec("cuda:0", lookup(name))


def rate(name: str, resource: str) -> float:
    found = ceilings_of(name).rate(resource)
    assert found is not None
    return found


def linear_ns(
    batch: int, width: int = WIDTH, item: int = 2, device: str = H100, unit: str = "tensor.bfloat16"
) -> float:
    """The textbook's time of [batch, width] x [width, width]: the longer of arithmetic and traffic."""
    flops = 2 * batch * width * width
    moved = item * (2 * batch * width + width * width)
    return 1e9 * max(flops / rate(device, unit), moved / rate(device, "dram"))


def read_of(built: TraceBuilder) -> Report:
    return read(io.BytesIO(built.bytes()))


def linears(batch: int, count: int = 10, dtype: str = "bfloat16", slower: float = 1.0) -> Report:
    """So many matrix products at their roof, or slower, one right behind the other; the host is far ahead."""
    built, at = TraceBuilder(), 10.0
    item, unit = (2, "tensor.bfloat16") if dtype == "bfloat16" else (4, "vector.float32")
    for number in range(count):
        us = round(slower * linear_ns(batch, item=item, unit=unit) / 1e3, 3)
        built.op("aten::mm", 0.4 * number, 0.3, inputs=[((batch, WIDTH), dtype), ((WIDTH, WIDTH), dtype)])
        name = "nvjet_hsh_128x256" if dtype == "bfloat16" else "ampere_sgemm_128x64_nn"
        built.kernel(name, round(at, 3), us, correlation=built.launch(0.4 * number + 0.1, 0.1))
        at += us + 1
    built.step(0, 0, 5)
    return read_of(built)


def test_below_the_ridge_a_larger_batch_costs_no_time_and_throughput_grows_with_it() -> None:
    found = linears(4).what_if(batch="x4").together
    assert linear_ns(16) == pytest.approx(linear_ns(4), rel=0.01)  # the weights are all that matters
    assert found.kernel_ns.mid == pytest.approx(10 * linear_ns(16), rel=0.01)
    assert found.speedup.mid == pytest.approx(1, rel=0.01)
    assert found.throughput.mid == pytest.approx(4, rel=0.01)


def test_across_the_ridge_latency_and_throughput_both_grow() -> None:
    few, many = linear_ns(64), linear_ns(64 * 16)
    found = linears(64).what_if(batch=16).together
    assert found.kernel_ns.mid == pytest.approx(10 * many, rel=0.01)
    assert few < many < 16 * few
    growth = (found.step_ns.mid - 10 * many) / 1e3
    assert growth < 25  # what is not kernels: the first launch and a microsecond between two
    assert 1 < found.throughput.mid < 16
    assert found.throughput.mid == pytest.approx(16 / (found.step_ns.mid / read_step(64)), rel=0.001)


def read_step(batch: int) -> int:
    return linears(batch).what_if(batch=2).tables.step_ns


def test_above_the_ridge_latency_grows_with_the_batch_and_throughput_stays() -> None:
    found = linears(4096).what_if(batch=2).together
    assert found.kernel_ns.mid == pytest.approx(10 * linear_ns(8192), rel=0.01)
    assert found.speedup.mid == pytest.approx(0.5, rel=0.02)
    assert found.throughput.mid == pytest.approx(1, rel=0.02)


def test_an_under_used_kernel_may_take_more_work_for_nothing_or_in_proportion() -> None:
    found = linears(4096, slower=4).what_if(batch=2).together
    recorded = 10 * 4 * linear_ns(4096)
    assert found.kernel_ns.low == pytest.approx(recorded, rel=0.01)  # units that were idle do it
    assert found.kernel_ns.mid == pytest.approx(recorded + 10 * linear_ns(4096), rel=0.01)  # what it lost stays
    assert found.kernel_ns.high == pytest.approx(2 * recorded, rel=0.01)  # its efficiency stays


def test_another_device_scales_memory_bound_kernels_by_bandwidth() -> None:
    found = linears(4).what_if(device="NVIDIA H200").together
    ratio = rate(H100, "dram") / rate("NVIDIA H200", "dram")
    assert found.kernel_ns.mid == pytest.approx(10 * linear_ns(4) * ratio, rel=0.02)
    assert found.kernel_ns.low <= found.kernel_ns.mid <= found.kernel_ns.high
    assert [row.family for row in found.families] == ["matmul"]


def test_a_launch_bound_step_gains_nothing_from_a_faster_device() -> None:
    report = late()
    assert report.what_if(device="NVIDIA H200").together.speedup.mid == pytest.approx(1, abs=0.01)
    assert report.what_if(graph=True).together.speedup.mid > 3
    both = report.what_if(device="NVIDIA H200", graph=True)
    assert [one.change for one in both.predictions] == ["device NVIDIA H200", "graph", "together"]
    assert both.together.step_ns.mid <= both.predictions[1].step_ns.mid


def late(count: int = 20) -> Report:
    """Small kernels of 5 us, launched every 50 us."""
    built = TraceBuilder()
    for number in range(count):
        built.op("aten::add", 50 * number, 40, inputs=[((1024,), "float32"), ((1024,), "float32"), 1])
        built.kernel(ELEMENTWISE, 50 * number + 35, 5, correlation=built.launch(50 * number + 30, 3))
    built.step(0, 0, 50 * count - 5)
    return read_of(built)


def test_a_narrower_dtype_halves_the_bytes_and_takes_the_other_unit() -> None:
    found = linears(4, dtype="float32").what_if(dtype="bfloat16").together
    assert found.kernel_ns.mid == pytest.approx(10 * linear_ns(4), rel=0.01)  # memory-bound: half the time
    busy = linears(4096, dtype="float32").what_if(dtype="torch.bfloat16").together
    assert busy.kernel_ns.mid == pytest.approx(10 * linear_ns(4096), rel=0.01)  # vector units against tensor cores


def test_float8_is_for_matrix_products_and_for_devices_that_have_it() -> None:
    report = linears(4)
    found = report.what_if(dtype="fp8").together
    # The inputs are halved, what is written is not: [4, D] of 2 bytes.
    moved = (4 * WIDTH + WIDTH * WIDTH) + 2 * 4 * WIDTH
    assert found.kernel_ns.mid == pytest.approx(10 * 1e9 * moved / rate(H100, "dram"), rel=0.01)
    assert late().what_if(dtype="float8").together.kernel_ns == late().what_if(batch=1).together.kernel_ns
    with pytest.raises(UsageError, match=r"float8.*NVIDIA A100"):
        report.what_if(dtype="float8", device="NVIDIA A100-SXM4-80GB")


def test_what_is_no_wider_than_asked_for_stays() -> None:
    assert linears(4).what_if(dtype="bfloat16").together.speedup.mid == pytest.approx(1)


def chain(count: int = 12) -> Report:
    """Pointwise kernels on 64 MiB, each at its roof, one behind the other, 1 us between them."""
    moved = 3 * 2**26
    us = round(1e6 * moved / rate(H100, "dram"), 3)
    built, at, tensor = TraceBuilder(), 10.0, ((2**24,), "float32")
    for number in range(count):
        built.op("aten::add", number, 0.8, inputs=[tensor, tensor, 1])
        built.kernel(ELEMENTWISE, round(at, 3), us, correlation=built.launch(number + 0.2, 0.2))
        at += us + 1
    built.step(0, 0, 14)
    return read_of(built)


def test_fusion_moves_only_what_enters_and_leaves_the_chain() -> None:
    report = chain()
    found = report.what_if(fuse=True).together
    one = report.what_if(batch=1).together.kernel_ns.mid / 12
    # Each of 12 reads two tensors and writes one; fused, 13 are read and one is written: 14 of 36.
    assert found.kernel_ns.mid == pytest.approx(12 * one * 14 / 36, rel=0.01)
    assert found.kernel_ns.low == pytest.approx(one, rel=0.01)
    assert found.kernel_ns.high == pytest.approx(12 * one, rel=0.01)
    assert found.families[0].calls == 1
    assert found.step_ns.mid < found.step_ns.high < report.window.steps[0].wall_ns


def reducing(us: float) -> Report:
    built = TraceBuilder()
    built.op("c10d::allreduce_", 0, 5)
    built.collective(10, us, elements=2**26, ranks=8, correlation=built.launch(1, 2))
    built.step(0, 0, 8)
    return read_of(built)


def test_a_faster_link_shortens_the_transfer_and_not_the_wait() -> None:
    link = rate(H100, "link.peer")
    transfer_us = 1e6 * 2**28 * 2 * 7 / 8 / link
    report = reducing(round(transfer_us + 100, 3))
    found = report.what_if(link=2 * link).together
    assert found.kernel_ns.mid == pytest.approx(1e3 * (100 + transfer_us / 2), rel=0.01)
    assert found.kernel_ns.low == pytest.approx(1e3 * (100 + transfer_us) / 2, rel=0.01)


def test_training_keeps_weights_gradients_and_optimizer_when_the_batch_grows() -> None:
    built, at = TraceBuilder(), 20.0
    batch, width = 256, 4096
    weight, grad = ((width, width), "bfloat16"), ((batch, width), "bfloat16")
    transposed = ((width, batch), "bfloat16", (1, width))
    us = [round(1e-3 * linear_ns(batch, width), 3)] * 3
    for number, (first, second) in enumerate([(grad, weight), (grad, weight), (transposed, grad)]):
        extra = {"Fwd thread id": 1, "Sequence number": 1} if number else {"Sequence number": 1}
        built.op("aten::mm", number, 0.8, inputs=[first, second], **extra)
        built.kernel("nvjet_hsh_128x256", round(at, 3), us[number], correlation=built.launch(number + 0.2, 0.2))
        at += us[number] + 1
    built.annotation("Optimizer.step#SGD.step", 4, 2)
    parameter = dense((width, width))
    built.op("aten::add_", 4.2, 0.6, inputs=[(*weight, parameter), (*weight, parameter), 1])
    update_us = round(1e6 * 3 * 2 * width * width / rate(H100, "dram"), 3)
    built.kernel(ELEMENTWISE, round(at, 3), update_us, correlation=built.launch(4.4, 0.2))
    built.step(0, 0, 8)
    found = read_of(built).what_if(batch=2).together
    matmul, update = found.families
    # Memory-bound still: D(B) = 2 (2 B W + W W) bytes, for forward, input gradient and weight gradient alike.
    assert linear_ns(2 * batch, width) > linear_ns(batch, width)
    assert matmul.predicted_ns.mid == pytest.approx(3 * linear_ns(2 * batch, width), rel=0.01)
    assert update.predicted_ns.mid == update.recorded_ns


def test_a_batch_of_one_changes_nothing() -> None:
    found = late().what_if(batch=1).together
    assert found.step_ns.low == found.step_ns.mid == found.step_ns.high == 995_000
    assert found.throughput.mid == 1


def test_kernels_without_known_work_are_guessed_and_said() -> None:
    built = TraceBuilder()
    built.op("mylib::secret", 0, 5)
    built.kernel("secret_kernel", 10, 500, correlation=built.launch(1, 2))
    built.step(0, 0, 8)
    found = read_of(built).what_if(batch=2).together
    assert (found.kernel_ns.low, found.kernel_ns.mid, found.kernel_ns.high) == (500_000, 1_000_000, 1_000_000)
    assert found.families[0].unknown_ns == 500_000
    assert any("no known work" in sentence for sentence in found.assumptions)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "ask for something"),
        ({"batch": "-1"}, "no factor"),
        ({"batch": "two"}, "no factor"),
        ({"dtype": "float7"}, "known are"),
        ({"link": -1.0}, "bytes a second"),
    ],
)
def test_questions_without_sense_are_refused(asked: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        late().what_if(**asked)  # type: ignore[arg-type]


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UnknownDeviceError, match="H1000"):
        late().what_if(device="NVIDIA H1000")


def test_a_saved_report_has_nothing_to_run_again() -> None:
    saved = Report.from_json(late().to_json())
    with pytest.raises(UsageError, match="read the trace itself"):
        saved.what_if(batch=2)


def test_a_cpu_recording_has_no_device_to_exchange() -> None:
    built = TraceBuilder(None)
    built.op("aten::mm", 0, 100, inputs=[((64, 64), "float32"), ((64, 64), "float32")])
    with pytest.raises(UsageError, match="of a CPU"):
        read_of(built).what_if(device=H100)


def on_cpu(us: float, numbers: int) -> Report:
    """Ten ops that add numbers on a CPU with 40 GB/s and a floor of 0.25 us."""
    built = TraceBuilder(None)
    rates = {"dram": 40e9, "vector.float32": 1e12, "kernel_floor": 0.25e-6}
    rows = [
        {"device": "cpu", "resource": resource, "achievable": rate, "datasheet": None, "low": None, "high": None,
         "origin": "measured", "source": "test"}
        for resource, rate in rates.items()
    ]  # fmt: skip
    built.top["diagnose"] = {"version": 1, "ceilings": rows}
    for number in range(10):
        built.op("aten::add", round(us * number, 3), us, inputs=[((numbers,), "float32")] * 2 + [1])
    return read_of(built)


def test_a_slow_loop_on_a_cpu_is_as_slow_for_every_number_more() -> None:
    # 12 MB at 40 GB/s: 315 us of 3000. A call costs 32 x 0.25 = 8 us whatever its numbers; the rest doubles.
    found = on_cpu(3000, 1 << 20).what_if(batch=2).together
    assert found.kernel_ns.mid == pytest.approx(10 * (8_000 + 2 * 2_992_000), rel=1e-3)
    # If the loop only lost time once, it would take 315 us more.
    assert found.kernel_ns.low == pytest.approx(10 * 3_000_000, rel=1e-3)
    assert found.kernel_ns.high == pytest.approx(10 * 6_000_000, rel=1e-3)
    half = on_cpu(3000, 1 << 20).what_if(batch=0.5).together
    assert half.kernel_ns.mid == pytest.approx(10 * (8_000 + 0.5 * 2_992_000), rel=1e-3)


def test_a_small_op_on_a_cpu_takes_what_a_call_costs() -> None:
    # 12 kB: 0.31 us of 4; the other 3.69 us are the call's.
    found = on_cpu(4, 1024).what_if(batch=8).together
    roof = 12 * 1024 / 40e9 * 1e9
    assert found.kernel_ns.mid == pytest.approx(10 * (4000 - roof + 8 * roof), rel=0.01)


def test_the_tables_in_every_form() -> None:
    found = late().what_if(batch="x2", graph=True)
    text, markdown = str(found), found.to_markdown()
    for shown in (text, markdown):
        assert "batch x2" in shown
        assert "together" in shown
        assert "pointwise" in shown
    assert max(map(len, text.splitlines())) <= 100
    decoded = json.loads(found.to_json())
    assert [one["change"] for one in decoded["predictions"]] == ["batch x2", "graph", "together"]
    assert decoded["predictions"][0]["step_ns"]["mid"] == found.predictions[0].step_ns.mid
    frame = found.to_frame()
    assert list(frame["change"]) == ["batch x2", "graph", "together"]
    assert repr(found).startswith("<diagnose.Prediction: together")


@pytest.mark.parametrize(("written", "factor"), [("x2", 2.0), ("0.5", 0.5), (3, 3.0), ("X8", 8.0)])
def test_a_batch_is_a_factor(written: str | int, factor: float) -> None:
    assert batch_of(written) == factor
