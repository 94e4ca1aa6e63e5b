"""How the project's figures look, and how they become SVG and PNG.

No state of `pyplot` is touched. Names of models, runs and laws come from users, so nothing in them is read as a formula,
and they may be Japanese: an SVG keeps its text as text, which the browser draws, and a PNG names `name 1` … what the
installed fonts cannot draw.
"""

import functools
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 5.2  # inches: 374 points, so that on a telephone of 400 pixels the text is as large as on paper
INK, FAINT = "#222222", "#8a8a8a"
# Okabe and Ito's colours, which the colour-blind can tell apart; the first is a grey, lighter also in print.
COLOURS = ("#8b95a1", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

_FONT_SIZE = 9
_HALF_WIDTH = 0.6 * _FONT_SIZE / 72  # inches; a full-width character has twice this or less
_PNG_DPI = 200
_SVG = "http://www.w3.org/2000/svg"
_JAPANESE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAGothic", "IPAPGothic", "BIZ UDGothic", "Yu Gothic", "Meiryo",
    "MS Gothic", "Hiragino Sans", "Hiragino Kaku Gothic ProN", "TakaoGothic", "VL Gothic", "Source Han Sans JP",
)  # fmt: skip


@functools.cache
def _fonts() -> list[str]:
    """Matplotlib's own font, and a Japanese one behind it where one is installed."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *[family for family in _JAPANESE_FONTS if family in installed][:1]]


def house_style(draw: Callable) -> Callable:
    """Decorates a function that draws or renders: the same look whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def styled(*args: Any, **kwargs: Any) -> Any:
        import matplotlib.style

        look = {
            "font.family": _fonts(),
            "font.size": _FONT_SIZE,
            "text.parse_math": False,  # a `$` in a name is a dollar sign
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "axes.titlesize": _FONT_SIZE,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "xtick.color": INK,
            "ytick.color": INK,
            "grid.color": "#e4e4e4",
            "legend.frameon": False,
            "svg.fonttype": "none",
        }
        with matplotlib.style.context(look, after_reset=True):
            return draw(*args, **kwargs)

    return styled


def new_figure(title: str, height: float, width: float = WIDTH) -> "Figure":
    """An empty figure with its heading; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.suptitle(title, x=0.02, y=1 - 0.08 / height, ha="left", va="top", fontsize=11)
    return figure


def canvas(
    title: str, inner: float, names: Sequence[str] = (), *, left: float = 0.74, right: float = 0.12, below: float = 0.5
) -> tuple["Figure", "Axes"]:
    """A figure with one set of axes whose margins fit its labels; it becomes wider where long names leave no room.

    The room for `names` is reckoned from their characters and not measured: the browser may draw them in another font.

    Args:
        title: the heading.
        inner: height of the axes in inches.
        names: labels to the left of the axes; without any the margin is `left`.
        left: margin in inches.
        right: margin in inches.
        below: margin in inches, for the axis' labels and the legend.
    """
    if names:
        left = 0.2 + max(map(_text_width, names)) * _HALF_WIDTH
    above = 0.42
    height, width = above + inner + below, max(WIDTH, left + 2.2 + right)
    figure = new_figure(title, height, width)
    figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=below / height, top=1 - above / height)
    return figure, figure.add_subplot()


def _text_width(text: str) -> int:
    """Width in half-width characters."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def short(name: str, width: int = 26) -> str:
    """A name that fits beside an axis: one line, and a long one without its middle, since laws often differ at the end.

    Args:
        name: as the user wrote it.
        width: in half-width characters.
    """
    name = " ".join(_visible(name).split())
    if _text_width(name) <= width:
        return name
    head = tail = ""
    while _text_width(head + name[len(head)]) <= width // 2:
        head += name[len(head)]
    while _text_width(head + tail + name[-len(tail) - 1]) < width:
        tail = name[-len(tail) - 1] + tail
    return f"{head}…{tail}"


def _visible(text: str) -> str:
    """The text without the control characters and half surrogates that no XML may hold (the production Char of XML 1.0)."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def percent(share: float) -> str:
    """`0.4286` -> `"42.9 %"`."""
    return f"{100 * share:.1f} %"


def percent_axis(axis: "Axis") -> None:
    """Marks an axis of shares in per cent."""
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")


def legend_below(figure: "Figure", axes: "Axes") -> None:
    """The legend at the foot of the figure, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    entry = max(map(_text_width, labels)) * _HALF_WIDTH + 0.5
    columns = max(1, min(len(labels), int(figure.get_figwidth() / entry)))
    figure.legend(handles, labels, loc="lower center", ncols=columns, borderaxespad=0.3, columnspacing=1.2, handlelength=1.6)


@house_style
def to_svg(figure: "Figure") -> str:
    """The figure as one `<svg>` element, for a page or a file of its own.

    Its text stays text, its heading becomes its `<title>`, and its label (`figure.set_label`) its `<desc>`, which screen
    readers read. It refers to nothing outside itself.
    """
    import matplotlib

    stream = io.StringIO()
    salt = f"lawft {figure.get_suptitle()}"  # the same figure, the same file; another figure, other ids
    with _silent_about_glyphs(), matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(stream.getvalue())
    for child in list(root):  # the maker's metadata, and a style sheet that would reach into the whole page
        if child.tag == f"{{{_SVG}}}metadata" or child.find(f"{{{_SVG}}}style") is not None:
            root.remove(child)
    used = {value.partition("#")[2].rstrip(")") for part in root.iter() for value in part.attrib.values() if "#" in value}
    for part in root.iter():  # the rest of the ids would stand on a page with several figures more than once
        if part.get("id") not in used:
            part.attrib.pop("id", None)
    root.attrib |= {"role": "img", "stroke-linejoin": "round"}
    for place, (tag, text) in enumerate((("title", figure.get_suptitle()), ("desc", figure.get_label()))):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}")
        element.text = _visible(text)
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


@contextmanager
def _silent_about_glyphs() -> Iterator[None]:
    """The browser has the fonts that matplotlib misses when it measures a label."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font|Matplotlib currently does not support")
        yield


@house_style
def to_png(figure: "Figure") -> bytes:
    """The figure as PNG, for places that show no SVG; the last thing to do with it.

    Without a Japanese font among the installed ones its names would be rows of boxes. They are then drawn as `name 1`,
    `name 2`, …, and the figure's label, which belongs beside the picture, says what these are.
    """
    names = _replace_undrawable(figure)
    if names:
        said = ", ".join(f"{drawn}: {name}" for name, drawn in names.items())
        figure.set_label(f"{figure.get_label()} ({said})")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_PNG_DPI)
    return stream.getvalue()


def _replace_undrawable(figure: "Figure") -> dict[str, str]:
    """Gives every word that the fonts cannot draw a number; returns word -> what stands for it."""
    from matplotlib.font_manager import findfont, get_font
    from matplotlib.text import Text

    drawable = {code for family in _fonts() for code in get_font(findfont(family)).get_charmap()}
    names: dict[str, str] = {}

    def stand_in(word: re.Match) -> str:
        if drawable.issuperset(map(ord, word[0])):
            return word[0]
        return names.setdefault(word[0], f"name {len(names) + 1}")

    def replaced(text: str) -> str:
        return re.sub(r"[^\s,;:]+", stand_in, text)

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if labels != (drawn := [replaced(label) for label in labels]):
                axis.set_ticks(axis.get_ticklocs(), labels=drawn)
    for text in figure.findobj(Text):
        text.set_text(replaced(text.get_text()))
    return names
