"""What the pictures share: colours and shapes a colour-blind reader and a grey printer keep apart, and a figure."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS: Final[dict[str | None, str]] = {
    "compute": "#0072B2", "memory": "#E69F00", "communication": "#009E73", "overhead": "#CC79A7", None: "#BBBBBB",
}  # fmt: skip
"""Okabe and Ito's colours."""

MARKERS: Final[dict[str | None, str]] = {
    "compute": "o", "memory": "s", "communication": "^", "overhead": "D", None: "X",
}  # fmt: skip

INK: Final = "#222222"


def plain(text: str) -> str:
    """A name that matplotlib prints as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def new_axes(width_inches: float, height_inches: float, margins: tuple[float, float, float, float]) -> Axes:
    """Axes of a figure of its own, which no window and no global state knows; margins left, bottom, right, top."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=120)
    FigureCanvasAgg(figure)
    left, bottom, right, top = margins
    return figure.add_axes((
        left / width_inches, bottom / height_inches,
        1 - (left + right) / width_inches, 1 - (bottom + top) / height_inches,
    ))  # fmt: skip
