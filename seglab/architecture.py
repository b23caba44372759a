"""The diagram of an architecture: its layout as SVG, and in words."""

import html
import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from seglab import svg
from seglab.layout import LETTER, LINE, RING, SIGNS, Layout, Place, Route
from seglab.tracing import Node

_BLUE, _PINK, _GREEN, _GRAY = "#0072B2", "#C978A6", "#009E73", "#7F7F7F"
_ROLES = {_BLUE: "encoder", _PINK: "branch or skip", _GREEN: "decoder"}
_WORDS = {"sum": "sum", "concat": "concatenation", "product": "product"}


def draw(nodes: list[Node], title: str) -> svg.Drawing:
    """Draw a traced architecture.

    Parameters
    ----------
    nodes : list of Node
        What `seglab.tracing.trace` returned.
    title : str
        Its name in the alt text.
    """
    layout = Layout(nodes)
    colors = _colors(layout)
    parts = [svg.ARROW]
    legend, right = _key(layout, [color for color in _ROLES if color in colors.values()])
    width = max(right, layout.width)
    for name, top, bottom in layout.bands:
        parts.append(
            f'<rect x="0" y="{top:.0f}" width="{width:.0f}" height="{bottom - top:.0f}" '
            f'rx="5" fill-opacity=".05"/>'
        )
        parts.append(svg.text(8, (top + bottom) / 2 + 4, name, "start"))
    parts += [_line(route) for route in layout.routes]
    parts += [_map(place, colors[key]) for key, place in layout.places.items()]
    body = "".join([*parts, legend])
    return svg.drawing(body, _spoken(layout, title), width, layout.height + 26)


def _colors(layout: Layout) -> dict[str, str]:
    """Return the color of every map: image, encoder, branch or decoder."""
    decoded: dict[str, bool] = {}  # made from several, or after resolution was regained
    found = {}
    for key, place in layout.places.items():
        before = [layout.places[edge.source] for edge in place.node.inputs]
        decoded[key] = place.joins or any(
            p.level > place.level or decoded[p.node.key] for p in before
        )
        users = layout.users[key]
        aside = len(users) == 1 and users[0].joins and users[0].level == place.level
        found[key] = (
            _GRAY
            if not before
            else _GREEN
            if decoded[key]
            else _PINK
            if aside or place.node.branch
            else _BLUE
        )
    return found


def _map(place: Place, color: str) -> str:
    y, w, h, d = place.y - place.height / 2, place.width, place.height, place.depth
    parts = []
    for x in (place.x + left for left in place.slices):
        faces = [
            (1.0, f"M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z"),
            (0.6, f"M{x:.1f} {y:.1f}l{d:.1f} {-d:.1f}h{w:.1f}l{-d:.1f} {d:.1f}z"),
            (0.8, f"M{x + w:.1f} {y:.1f}l{d:.1f} {-d:.1f}v{h:.1f}l{-d:.1f} {d:.1f}z"),
        ]
        parts += [f'<path d="{path}" fill-opacity="{shade}"/>' for shade, path in faces]
    x, base = place.name_at
    for k, line in enumerate(reversed(place.lines)):
        parts.append(svg.text(x, base - LINE * k, line, place.anchor))
    parts.append(svg.text(place.middle, y + h + LINE, place.amount))
    if place.joins:
        parts.append(_ring(place.ring_x, place.y, SIGNS[place.node.kind]))
    shape = " ".join(map(str, place.node.shape))
    return (
        f'<g fill="{color}" data-name="{html.escape(place.node.key)}" data-shape="{shape}">'
        f"{''.join(parts)}</g>"
    )


def _ring(x: float, y: float, sign: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RING:g}" fill="none" stroke="currentColor" '
        f'stroke-width="1.3"/>{svg.text(x, y + 4, sign)}'
    )


def _line(route: Route) -> str:
    points = route.points()
    dash = ' stroke-dasharray="4 3"' if route.edge.indices else ""
    line = (
        f'<path d="{_rounded(points)}" fill="none" stroke="currentColor" stroke-width="1.3"'
        f'{dash} marker-end="url(##arrow)"/>'
    )
    if not route.factor:
        return line
    _, (x, y), (_, other) = max((abs(a[1] - b[1]), a, b) for a, b in pairwise(points))
    return line + svg.text(x + 5, (y + other) / 2 + 4, route.factor, "start")


def _rounded(points: list[tuple[float, float]], radius: float = 5) -> str:
    """Return a path along points with rounded corners."""
    path = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        entry, leave = (_toward(corner, other, radius) for other in (before, after))
        path += f"L{entry[0]:.1f} {entry[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f}"
        path += f" {leave[0]:.1f} {leave[1]:.1f}"
    return path + f"L{points[-1][0]:.1f} {points[-1][1]:.1f}"


def _toward(
    start: tuple[float, float], end: tuple[float, float], distance: float
) -> tuple[float, float]:
    length = math.dist(start, end) or 1.0
    share = min(distance / length, 0.5)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _key(layout: Layout, colors: Sequence[str]) -> tuple[str, float]:
    """Explain colors, signs and dashes; return that and its right end."""
    x, y, parts = 8.0, layout.height + 17, []
    for color in colors if len(colors) > 1 else ():
        parts.append(f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="11" height="11" fill="{color}"/>')
        parts.append(svg.text(x + 16, y, _ROLES[color], "start"))
        x += 34 + LETTER * len(_ROLES[color])
    kinds = {place.node.kind for place in layout.places.values()}
    for kind in (kind for kind in SIGNS if kind in kinds):
        parts.append(_ring(x + 6, y - 4, SIGNS[kind]))
        parts.append(svg.text(x + 18, y, _WORDS[kind], "start"))
        x += 38 + LETTER * len(_WORDS[kind])
    if any(route.edge.indices for route in layout.routes):
        word = "positions of maxima"
        parts.append(
            f'<path d="M{x:.0f} {y - 4:.0f}h26" stroke="currentColor" stroke-width="1.3" '
            f'stroke-dasharray="4 3"/>{svg.text(x + 32, y, word, "start")}'
        )
        x += 50 + LETTER * len(word)
    return "".join(parts), x


def _spoken(layout: Layout, title: str) -> str:
    """Say what a diagram shows: in a sentence, then map by map."""
    nodes = [place.node for place in layout.places.values()]
    sizes = [node.shape for node in nodes if len(node.shape) == 3]
    summary = f"{title} turns an image of {_shape(nodes[0])} into {_shape(nodes[-1])}"
    height, width = min((shape[1:] for shape in sizes), key=math.prod)
    summary += f", through maps down to {height} × {width}"
    joins = [(kind, sum(node.kind == kind for node in nodes)) for kind in SIGNS]
    words = [f"{n} {_WORDS[kind]}{'s' if n > 1 else ''}" for kind, n in joins if n]
    summary += f", joined by {' and '.join(words)}." if words else "."
    return summary + " Map by map: " + "; ".join(_phrases(nodes, layout)) + "."


def _phrases(nodes: list[Node], layout: Layout) -> Iterator[str]:
    """Name every map, what it is made of unless that is the one before, and its shape."""
    names = {
        key: re.sub("(?<=[_.]) ", "", " ".join(place.lines))
        or key.replace("concat", _WORDS["concat"])
        for key, place in layout.places.items()
    }
    for before, node in pairwise(nodes):
        maps = [edge for edge in node.inputs if not edge.indices]
        sources = [names[e.source] + (f" by {e.via}" if e.via else "") for e in maps]
        plain = len(maps) == 1 and maps[0].source == before.key and not maps[0].via
        phrase = names[node.key] + (f" ({node.count} blocks)" if node.count > 1 else "")
        phrase += "" if plain else f" of {' and '.join(sources)}"
        phrase += f": {_shape(node)}"
        if pools := [names[edge.source] for edge in node.inputs if edge.indices]:
            phrase += f", with the positions of {' and '.join(pools)}"
        yield phrase


def _shape(node: Node) -> str:
    return " × ".join(map(str, node.shape))
