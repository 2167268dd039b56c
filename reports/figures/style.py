"""The style of the figures and their conversion to inline SVG, which follows the colours of the page.

Colours are those of Okabe and Ito (2008), which people with any of the common colour-vision deficiencies can tell
apart; memories also carry their number. Ink, rules and paper are placeholders that :func:`inline_svg` turns into the
page's CSS variables, so that one file serves light, dark and print.
"""

import functools
import html
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from cycler import cycler
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from probam.reports.page import number

__all__ = [
    "GRID",
    "INK",
    "MEMORY_COLOURS",
    "MUTED",
    "OTHERS",
    "PAPER",
    "ink_on",
    "inline_svg",
    "log_axis",
    "memory_colour",
    "new_figure",
    "quiet",
    "show_image",
    "styled",
]

INK, MUTED, GRID, PAPER = "#1b2027", "#5c6773", "#d5dbe1", "#fefefd"

MEMORY_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a6508c", "#e69f00", "#56b4e9", "#8c6d31", "#7b8794")

OTHERS = "#a7b0b8"
"""Colour of memories that are drawn together, or that carry no number."""

_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--rule)", PAPER: "var(--paper)"}

_WIDE_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei", "Droid Sans Fallback"),
    *("Hiragino Sans", "PingFang SC", "Apple SD Gothic Neo", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Nirmala UI", "Arial Unicode MS"),
)
"""Families for the scripts that DejaVu Sans lacks. Only those that are installed are asked, to measure text: the page
shows it in the fonts of its reader."""

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.prop_cycle": cycler(color=MEMORY_COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", *sorted(set(_WIDE_FONTS) & set(fontManager.get_font_names()))],
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.2,
    "patch.linewidth": 0.7,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "probam",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
    "ytick.major.width": 0.7,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorator: draw in the style of the report, and leave Matplotlib's settings as they were."""

    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return inside


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches, that belongs to no pyplot state."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained")


def memory_colour(position: int) -> str:
    """Colour of the memory at this position of the ``memory`` group; colours repeat after the eighth."""
    return MEMORY_COLOURS[position % len(MEMORY_COLOURS)]


def ink_on(colour: str) -> str:
    """Black or white, whichever stands out more from a colour."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))  # relative luminance of WCAG 2
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def quiet(axes: Axes, *, grid: str | None = None) -> None:
    """Light grid lines along ``grid``, "x" or "y", without tick marks."""
    if grid is not None:
        axes.grid(visible=True, axis="x" if grid == "x" else "y")
        axes.tick_params(axis="x" if grid == "x" else "y", length=0)


def log_axis(
    axes: Axes, which: Literal["x", "y"], ticks: Sequence[float] | None = None, *, linear_within: float | None = None
) -> None:
    """A logarithmic axis whose ticks are plain numbers, where Matplotlib would write TeX. Call it after plotting.

    Args:
        axes: the panel.
        which: which of its axes.
        ticks: where numbers stand; None for powers of ten, with their multiples by 2 and 5 where there is room.
        linear_within: linear from minus this value to it, so that values may be negative; needs ``ticks``.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    if linear_within is None:
        set_scale("log")
    else:
        set_scale("symlog", linthresh=linear_within)
    if ticks is not None:
        axis.set_ticks(list(ticks), [number(float(tick)) for tick in ticks])
        axis.set_minor_locator(NullLocator())
        return
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 400 * low else (1.0,)))
    axis.set_major_formatter(lambda value, _: number(float(value)))
    axis.set_minor_formatter(NullFormatter())


def show_image(axes: Axes, pixels: Float[np.ndarray, "H W C"]) -> None:
    """An image of pixels from 0 to 1 without ticks: three channels as colours, one as ink; others are clipped."""
    within = np.clip(pixels, 0, 1)
    axes.imshow(within if within.shape[-1] == 3 else within[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])


def inline_svg(figure: Figure, name: str, alt: str) -> str:
    """The figure as an ``<svg>`` element for an HTML page.

    Text stays text, which the reader's browser shows in fonts of its own, so that it may be in any script. Nothing
    refers to the network, not even a namespace.

    Args:
        figure: drawn in the style of the report (:func:`styled`).
        name: prefix of its ids, unique on the page.
        alt: description for screen readers.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        for what in ("Glyph .* missing from font", "Matplotlib currently does not support .* natively"):
            warnings.filterwarnings("ignore", what)  # here, where text is only measured
        figure.savefig(
            buffer, format="svg", dpi=110, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    text = re.sub(r'(?<= d=")[^"]*', lambda path: re.sub(r"\d+\.\d{3,}", _two_decimals, path[0]), text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    width = figure.get_figwidth()
    kind = 'class="map" ' if "<image" in text else ""  # dark pages show maps inverted
    opening = f'<svg {kind}role="img" aria-label="{html.escape(alt, quote=True)}" style="--inches:{width:g}"'
    return re.sub(r'<svg(\s+width="[^"]*")?(\s+height="[^"]*")?', opening, text, count=1)


def _two_decimals(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
