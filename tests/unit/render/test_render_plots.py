"""The pictures: every kernel is drawn or counted, nothing overlaps, nothing is lost."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from report_documents import deviceless_document, gpu_document, hostile_document, unknown_device_document

from diagnose.render.drawing import COLORS, MARKERS
from diagnose.render.labels import Box, Spot, free_boxes
from diagnose.render.roofline_plot import plot_roofline
from diagnose.render.waterfall_plot import plot_waterfall


def drawn_points(axes) -> int:
    return sum(len(collection.get_offsets()) for collection in axes.collections if hasattr(collection, "get_sizes"))


def names_in(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("draw", [plot_roofline, plot_waterfall])
def test_every_report_can_be_drawn_alone_and_into_given_axes(draw, document):
    draw(document).figure.canvas.draw()
    figure = Figure()
    FigureCanvasAgg(figure)
    given_axes = figure.add_subplot()
    assert draw(document, given_axes) is given_axes
    figure.canvas.draw()


def test_every_kernel_is_a_point_or_is_counted():
    axes = plot_roofline(gpu_document())
    assert drawn_points(axes) == 9
    assert "not drawn: 1 without work, or without known work, 5.1 % of the kernel time" in axes.get_xlabel()


def test_a_point_stands_where_the_row_says():
    document = gpu_document()
    row = document.kernels[0]
    points = np.concatenate([c.get_offsets() for c in plot_roofline(document).collections if hasattr(c, "get_sizes")])
    assert any(np.allclose(point, (row.arithmetic_intensity, row.achieved_flops_per_s)) for point in points)


def test_kernels_without_arithmetic_stand_in_the_strip_at_their_share_of_the_memory_roof():
    document = gpu_document()
    copy = next(row for row in document.kernels if row.op == "aten::copy_")
    axes = plot_roofline(document)
    points = np.concatenate([c.get_offsets() for c in axes.collections if hasattr(c, "get_sizes")])
    slope = max(
        (line for line in axes.get_lines() if len(line.get_xdata()) == 3), key=lambda line: line.get_linewidth()
    )
    level, edge = slope.get_ydata()[0], slope.get_xdata()[1]
    in_strip = points[points[:, 0] < edge]
    assert len(in_strip) == 2
    assert max(in_strip[:, 1]) / level == pytest.approx(copy.achieved_bytes_per_s / 3.0e12)
    assert all(point[0] > axes.get_xlim()[0] for point in in_strip)


def test_roofs_and_ridges_in_use_are_drawn_and_named():
    axes = plot_roofline(gpu_document())
    text = " ".join(names_in(axes))
    assert "tensor.bfloat16 790 TFLOP/s (published, datasheet 990 TFLOP/s)" in text
    assert "vector.float32 56.0 TFLOP/s (family, datasheet 66.9 TFLOP/s)" in text
    assert "dram 3.00 TB/s (published)" in text
    assert "ridge 263 FLOP/byte" in text
    heights = {line.get_ydata()[-1] for line in axes.get_lines()}
    assert {7.9e14, 9.895e14, 5.6e13} <= heights


def test_a_device_without_ceilings_has_points_and_no_roof():
    axes = plot_roofline(unknown_device_document())
    assert drawn_points(axes) == 9
    assert not any("FLOP/s (" in name for name in names_in(axes))
    assert "Frobnicator 9000" in axes.get_title(loc="left")


def test_nothing_to_draw_is_said():
    assert "no kernel has known work" in names_in(plot_roofline(deviceless_document()))
    assert "nothing ran on a device" in names_in(plot_waterfall(deviceless_document()))


def test_names_do_not_overlap_and_stay_inside():
    axes = plot_roofline(gpu_document())
    axes.figure.canvas.draw()
    ranks = [text for text in axes.texts if text.get_text()[:1].isdigit()]
    assert len(ranks) >= 6
    extents = [text.get_window_extent() for text in ranks]
    for index, one in enumerate(extents):
        assert not any(one.overlaps(other) for other in extents[index + 1 :])
        assert not one.overlaps(axes.get_legend().get_window_extent())
        assert axes.get_window_extent().contains(one.x0, one.y0)
        assert axes.get_window_extent().contains(one.x1, one.y1)


def test_names_with_a_dollar_sign_are_not_formulas():
    document = hostile_document()
    rows = [msgspec.structs.replace(row, op=r"$\frac{") for row in document.kernels]
    plot_roofline(msgspec.structs.replace(document, kernels=rows)).figure.canvas.draw()


def luminance(color: str) -> float:
    red, green, blue = (int(color[index : index + 2], 16) for index in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_bounds_differ_by_shape_and_neighbours_by_grey():
    assert len(set(MARKERS.values())) == len(MARKERS) == len(set(COLORS.values()))
    assert abs(luminance(COLORS["compute"]) - luminance(COLORS["memory"])) > 60


def test_the_bars_are_as_long_as_the_steps():
    document = gpu_document()
    axes = plot_waterfall(document)
    ends = {}
    for bar in axes.patches:
        middle = round(bar.get_y() + bar.get_height() / 2)
        ends[middle] = max(ends.get(middle, 0), bar.get_x() + bar.get_width())
    assert [ends[index] for index in sorted(ends)] == [step.wall_ns for step in document.window.steps]


coordinates = st.floats(0, 400)
spots = st.builds(Spot, coordinates, coordinates, st.floats(1, 20), st.floats(5, 80), st.floats(5, 15))


@given(st.lists(spots, max_size=12))
def test_placed_boxes_never_touch(points):
    inside, taken = Box(0, 0, 400, 400), [Box(300, 0, 400, 100)]
    roof = (0.0, 200.0, 400.0, 200.0)
    boxes = [box for box in free_boxes(points, inside, taken, [roof]) if box is not None]
    for index, box in enumerate(boxes):
        assert box.is_inside(inside)
        assert not box.overlaps(taken[0])
        assert box.y0 > 200 or box.y1 < 200
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_a_lone_point_gets_its_name_beside_it():
    (box,) = free_boxes([Spot(100, 100, 5, 40, 10)], Box(0, 0, 200, 200), [])
    assert abs(box.nearest(100, 100)[0] - 100) < 12


def test_a_line_through_a_box_crosses_it_and_one_beside_it_does_not():
    box = Box(0, 0, 10, 10)
    assert box.is_crossed((-5, 5, 15, 5))
    assert box.is_crossed((-5, -5, 15, 15))
    assert not box.is_crossed((-5, 11, 15, 11))
    assert not box.is_crossed((-5, 8, 5, 18))
