"""Two reports in one picture, the L2 roof, and lines of equal time."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from report_documents import deviceless_document, gpu_document, unknown_device_document

from diagnose.render.roofline_changes import counterparts
from diagnose.render.roofline_plot import plot_roofline
from diagnose.report import Report
from diagnose.schema import Ceiling, Document, KernelRow

replaced = msgspec.structs.replace


def with_kernels(document: Document, kernels: list[KernelRow]) -> Document:
    return replaced(document, kernels=kernels)


def faster(row: KernelRow, times: float) -> KernelRow:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value * times

    return replaced(
        row,
        achieved_flops_per_s=scaled(row.achieved_flops_per_s),
        achieved_bytes_per_s=scaled(row.achieved_bytes_per_s),
    )


def arrows(axes) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    found = [text for text in axes.texts if getattr(text, "arrow_patch", None) is not None]
    return [(text.xyann, text.xy) for text in found]


def words(axes) -> str:
    return " ".join(text.get_text() for text in axes.texts)


class TestBeforeAndAfter:
    def test_an_arrow_leads_from_where_a_kernel_was_to_where_it_is(self):
        before = gpu_document()
        after = with_kernels(before, [faster(row, 20 if row.place == 1 else 1) for row in before.kernels])
        (arrow,) = arrows(plot_roofline(after, before=before))
        old, new = before.kernels[0], after.kernels[0]
        assert arrow[0] == pytest.approx((old.arithmetic_intensity, old.achieved_flops_per_s))
        assert arrow[1] == pytest.approx((new.arithmetic_intensity, new.achieved_flops_per_s))

    def test_hollow_marks_stand_where_kernels_were(self):
        document = gpu_document()
        plain, both = plot_roofline(document), plot_roofline(document, before=document)
        hollow = [c for c in both.collections if hasattr(c, "get_sizes") and not len(c.get_facecolor())]
        assert len(both.collections) == len(plain.collections) + len(hollow)
        assert len(hollow) == len(counterparts(document, document.kernels)) > 5
        assert arrows(both) == []
        assert "where it was before" in [text.get_text() for text in both.get_legend().get_texts()]
        assert "where it was before" not in [text.get_text() for text in plain.get_legend().get_texts()]

    def test_everything_drawn_lies_inside(self):
        before = gpu_document()
        after = with_kernels(before, [faster(row, 1000) for row in before.kernels])
        axes = plot_roofline(after, before=before)
        (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
        for start, end in arrows(axes):
            assert left < start[0] < right
            assert low < start[1] < end[1] < high

    def test_the_report_takes_a_report(self):
        report = Report(gpu_document())
        after = Report(with_kernels(report.document, [faster(row, 9) for row in report.kernels]))
        assert arrows(after.plot(before=report, iso_time=True))

    @pytest.mark.parametrize("before", [deviceless_document(), unknown_device_document()])
    def test_any_earlier_report_will_do(self, before: Document):
        plot_roofline(gpu_document(), before=before).figure.canvas.draw()
        plot_roofline(before, before=gpu_document()).figure.canvas.draw()


class TestCounterparts:
    def names(self, before: Document, after: Document) -> set[tuple[str, str]]:
        return {(old.kernel, new.kernel) for old, new in counterparts(before, after.kernels)}

    def test_are_the_same_op_on_the_same_shapes_whatever_kernel_does_it(self):
        before = gpu_document()
        row = before.kernels[0]
        after = with_kernels(before, [replaced(row, kernel="another_kernel"), *before.kernels[1:]])
        assert (row.kernel, "another_kernel") in self.names(before, after)

    def test_are_the_same_op_where_only_one_is_left(self):
        before = with_kernels(gpu_document(), gpu_document().kernels[:1])
        row = before.kernels[0]
        after = with_kernels(before, [replaced(row, kernel="another_kernel", signature=None)])
        assert self.names(before, after) == {(row.kernel, "another_kernel")}

    def test_are_not_guessed(self):
        one = gpu_document().kernels[0]
        before = with_kernels(gpu_document(), [replaced(one, kernel="a"), replaced(one, kernel="b", place=2)])
        after = with_kernels(before, [replaced(one, kernel="c"), replaced(one, kernel="d", place=2)])
        assert self.names(before, after) == set()
        assert self.names(before, with_kernels(before, [replaced(one, op="aten::other", kernel="e")])) == set()


def with_l2(document: Document) -> Document:
    device = next(row.device for row in document.ceilings if row.resource == "dram")
    row = Ceiling(device, "l2", 9e12, None, None, None, "published", "a test")
    return replaced(document, ceilings=[*document.ceilings, row])


def test_the_l2_roof_is_a_slope_of_its_own():
    document = gpu_document()
    axes = plot_roofline(with_l2(document))
    assert "l2 9.00 TB/s (published)" in words(axes)
    assert "l2" not in words(plot_roofline(document))
    slope = next(line for line in axes.get_lines() if line.get_linestyle() == "-.")
    x, y = slope.get_xdata(), slope.get_ydata()
    assert y[-1] / x[-1] == pytest.approx(9e12)
    assert y[1] / x[1] == pytest.approx(9e12)


def test_lines_of_equal_time_are_the_roof_divided():
    document = gpu_document()
    assert "the roof's time" not in words(plot_roofline(document))
    axes = plot_roofline(document, iso_time=True)
    assert "3x the roof's time" in words(axes)
    dotted = [line for line in axes.get_lines() if line.get_linestyle() == ":" and len(line.get_xdata()) == 4]
    heights = sorted((line.get_ydata()[-1] for line in dotted), reverse=True)
    top = max(row.achievable for row in document.ceilings if row.resource == "tensor.bfloat16")
    assert np.allclose([top / height for height in heights], [3, 10, 100, 1000][: len(heights)])
    for line in dotted:
        x, y = line.get_xdata(), line.get_ydata()
        assert y[1] / x[1] == pytest.approx(y[2] / x[2])


def test_names_of_such_lines_stand_on_no_other_name():
    axes = plot_roofline(with_l2(gpu_document()), iso_time=True)
    texts = [text for text in axes.texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts if "the roof's time" in text.get_text()]
    others = [text.get_window_extent() for text in texts if "datasheet" in text.get_text()]
    assert boxes
    assert not any(box.overlaps(other) for box in boxes for other in others)
