"""Drawings as inline SVG: readable in light and dark, on a phone, in Colab and in print.

Black becomes ``currentColor``, so that text and axes take the color of the page around them;
text stays text in the reader's own sans-serif; the background stays transparent.
"""

import base64
import hashlib
import html
import io
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, replace

from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LEGIBLE = 10.0  # CSS pixels; a drawing shrinks until its smallest text is that high, then scrolls
_LEAST, _MOST = 0.5, 0.84  # of its natural size, whatever its text

# Marker for the end of a line: marker-end="url(##arrow)"
ARROW = (
    '<defs><marker id="#arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
    'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
    '<path d="M0 .8 7 4 0 7.2z"/></marker></defs>'
)

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_shown: Counter[str] = Counter()


@dataclass(frozen=True)
class Drawing:
    """A picture as SVG markup, with the words that stand in for it.

    Attributes
    ----------
    svg : str
        One ``<svg>`` element; all ids in it start with ``prefix``.
    alt : str
        What the picture shows, for readers who cannot see it.
    width : float
        Natural width in CSS pixels.
    prefix : str
        Start of every id; depends on nothing but the picture and its alt text.
    """

    svg: str
    alt: str
    width: float
    prefix: str

    def described(self, alt: str) -> "Drawing":
        """Return the same picture with another alt text."""
        check_alt(alt)
        before, after = html.escape(self.alt), html.escape(alt)
        return replace(self, svg=self.svg.replace(before, after, 2), alt=alt)

    def html(self) -> str:
        """Return the drawing in a box that scrolls sideways where the screen is too narrow.

        A drawing that was on the page before gets other ids than the first time, since an id may
        stand on a page once.
        """
        _shown[self.prefix] += 1
        svg = self.svg
        if _shown[self.prefix] > 1:
            svg = svg.replace(self.prefix, f"{self.prefix}{_shown[self.prefix]}-")
        focus = ' tabindex="0" role="group" aria-label="figure"' if self.width > 420 else ""
        return f'<div class="seglab-figure" style="overflow-x:auto"{focus}>{svg}</div>'

    def _repr_html_(self) -> str:
        return self.html()


def drawing(body: str, alt: str, width: float, height: float, view: str | None = None) -> Drawing:
    """Wrap SVG elements into a `Drawing`.

    Parameters
    ----------
    body : str
        SVG elements; write ``id="#name"`` and ``url(##name)`` for ids.
    alt : str
        What the drawing shows; not empty.
    width, height : float
        Natural size in CSS pixels.
    view : str, optional
        The viewBox; by default the natural size.

    Raises
    ------
    ValueError
        If ``alt`` is empty.
    """
    check_alt(alt)
    view = view or f"0 0 {width:g} {height:g}"
    prefix = "s" + hashlib.sha256((body + alt).encode()).hexdigest()[:10] + "-"
    words = html.escape(alt)
    style = (
        f"width:100%;max-width:{width:.0f}px;min-width:{_shrunk(body, width, view):.0f}px;"
        "height:auto;display:block;margin:0 auto;background:transparent;"
        "stroke-linejoin:round;stroke-linecap:butt"
    )
    svg = (
        f'<svg xmlns="{_SVG}" viewBox="{view}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{words}" fill="currentColor" font-family="{FONTS}" '
        f'style="{style}"><title>{words}</title>{body.replace("##", "#" + prefix)}</svg>'
    )
    return Drawing(svg.replace('id="#', f'id="{prefix}'), alt, width, prefix)


def _shrunk(body: str, width: float, view: str) -> float:
    """Return the width at which the smallest text is just legible."""
    sizes = [float(size) for size in re.findall(r'font-size(?:="|: )([\d.]+)', body)]
    pixels = width / float(view.split()[2])  # for each unit of the drawing
    share = LEGIBLE / (pixels * min(sizes)) if sizes else 0
    return width * min(max(share, _LEAST), _MOST)


def text(x: float, y: float, words: str, anchor: str = "middle", size: float = 12) -> str:
    """Return a text element in the page's color; ``y`` is its baseline."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}" '
        f'fill="currentColor">{html.escape(words)}</text>'
    )


def check_alt(alt: str) -> None:
    """Refuse an empty alt text.

    Raises
    ------
    ValueError
        If ``alt`` holds no word.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"a figure needs an alt text that says what to see, got {alt!r}")


def from_figure(figure: Figure, alt: str) -> Drawing:
    """Turn a matplotlib figure into a `Drawing`.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Drawn with black ink; black is what follows the page's color.
    alt : str
        What the figure shows; not empty.

    Raises
    ------
    TypeError
        If ``figure`` is not a figure.
    ValueError
        If ``alt`` is empty.
    """
    check_alt(alt)
    if not isinstance(figure, Figure):
        raise TypeError(f"expected a matplotlib Figure, got {type(figure).__name__}")
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "seglab"}):
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            bbox_inches="tight",
            pad_inches=0.04,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    root = ElementTree.fromstring(file.getvalue())
    _clean(root)
    view = root.get("viewBox", "")
    width, height = (float(number) for number in view.split()[2:])
    ElementTree.register_namespace("", _SVG)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    body = body.replace(f' xmlns="{_SVG}"', "")
    return drawing(body, alt, width * 4 / 3, height * 4 / 3, view)  # points to CSS pixels


def _clean(root: ElementTree.Element) -> None:
    """Drop what a page does not need; mark ids and references for `drawing`."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("metadata", "style")):
                parent.remove(child)
    for element in root.iter():
        if element.get("id") in used:
            element.set("id", "#" + element.attrib["id"])
        else:
            element.attrib.pop("id", None)
        if _LINK in element.attrib:
            link = element.attrib.pop(_LINK)
            element.set("href", _lighter(link) if link.startswith("data:") else "#" + link)
        if "d" in element.attrib:
            element.set("d", _shorter(element.attrib["d"]))
        for name in ("style", "clip-path"):
            if name in element.attrib:
                value = element.attrib[name].replace("url(#", "url(##")
                value = value.replace("#000000", "currentColor")
                value = re.sub(r"font-family:[^;]*;?|crisp-edges;image-rendering:", "", value)
                value = re.sub(r"font: ([\d.]+px)[^;]*", r"font-size: \1", value)
                element.set(name, value.strip())
        element.tail = None
        if not element.tag.endswith(("text", "tspan", "title")):
            element.text = None


def _shorter(path: str) -> str:
    """Round the numbers of a path to 1/100 point, of a long one to 1/10."""
    digits = 1 if len(path) > 1000 else 2
    path = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.{digits}f}", path)
    return re.sub(r"\.0+\b", "", " ".join(path.split()))


def _lighter(link: str) -> str:
    """Encode an embedded picture again: few colors as palette PNG, a photograph as WebP."""
    picture = Image.open(io.BytesIO(base64.b64decode(link.split(",", 1)[1])))
    kind, data = compress(picture)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def compress(picture: Image.Image) -> tuple[str, bytes]:
    """Encode a picture so that it costs little.

    Returns
    -------
    str
        "webp" with small losses for a photograph, "png" without loss for 256 colors or fewer and
        where a part is transparent.
    bytes
        The encoded picture.
    """
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        picture = picture.convert("RGB")
    file = io.BytesIO()
    colors = picture.getcolors(256)
    if picture.mode == "RGB" and colors is None:
        picture.save(file, "webp", quality=90, method=4, use_sharp_yuv=True)
        return "webp", file.getvalue()
    if picture.mode == "RGB" and colors:
        picture = picture.quantize(len(colors), dither=Image.Dither.NONE)
    picture.save(file, "png", optimize=True)
    return "png", file.getvalue()
