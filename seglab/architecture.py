"""Where the feature maps of an architecture stand in its diagram, and how they look."""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from seglab import svg
from seglab.tracing import Edge, Node

_BLUE, _PINK, _GREEN, _GRAY = "#0072B2", "#C978A6", "#009E73", "#7F7F7F"
_TALLEST = 72.0  # height of the image, CSS pixels
_LINE = 15.0  # height of a line of text
_LETTER = 6.9  # mean width of a letter of 12 pixels
_RING = 8.0  # radius of the sign of a sum or concatenation
_SIGNS = {"sum": "+", "concat": "C", "product": "×"}


@dataclass
class _Place:
    """Where a feature map stands, in CSS pixels: its front face, and its name above it."""

    node: Node
    rank: int
    level: int
    width: float
    height: float
    lines: list[str]
    anchor: str = "middle"  # of the name
    spans: list[tuple[float, float]] = field(default_factory=list)  # body, amount, name: from x
    clear: tuple[float, float] = (0.0, 0.0)  # left and right end of what lines must not cross
    x: float = 0.0  # left edge
    y: float = 0.0  # center

    @property
    def depth(self) -> float:
        return 0.2 * self.height

    @property
    def above(self) -> float:
        return self.height / 2 + self.depth + _LINE * len(self.lines) + 4

    @property
    def below(self) -> float:
        return self.height / 2 + _LINE + 5

    @property
    def face(self) -> tuple[float, float]:
        """Left and right end of the drawn body, from the left edge."""
        return 0.0, self.width + self.depth

    def span(self, text: str, anchor: str) -> tuple[float, float]:
        """Left and right end of a text above or below the body."""
        left, right = self.face
        long = _LETTER * len(text)
        start = {"start": left, "end": right - long}.get(anchor, (left + right - long) / 2)
        return start, start + long


def draw(nodes: list[Node], title: str) -> svg.Drawing:
    """Draw a traced architecture.

    Parameters
    ----------
    nodes : list of Node
        What `seglab.tracing.trace` returned.
    title : str
        Its name in the alt text.
    """
    return _Layout(nodes, title).draw()


class _Layout:
    """Columns by order of computation, rows by resolution, lanes for parallel branches."""

    def __init__(self, nodes: list[Node], title: str):
        self.title = title
        self.nodes = {node.key: node for node in nodes}
        self.users: dict[str, list[Node]] = {key: [] for key in self.nodes}
        for node in nodes:
            for edge in node.inputs:
                self.users[edge.source].append(node)
        self.branches = self._branches()
        side = max(_side(node.shape) for node in nodes)
        self.places: dict[str, _Place] = {}
        for node in nodes:
            self.places[node.key] = _Place(
                node,
                max((self.places[edge.source].rank + 1 for edge in node.inputs), default=0),
                self._level(node),
                2 + 0.7 * math.sqrt(node.shape[-1] if len(node.shape) == 2 else node.shape[0]),
                max(10.0, _TALLEST * math.sqrt(_side(node.shape) / side)),
                _wrapped(node),
            )
        self._columns()
        self._rows()

    def _branches(self) -> dict[str, str]:
        """Blocks that run side by side on the same map, and that map."""
        found: dict[tuple[str, str], list[str]] = {}
        for key, node in self.nodes.items():
            if node.kind == "block" and len(node.inputs) == 1 and len(self.users[key]) == 1:
                user = self.users[key][0]
                if user.kind in _SIGNS:
                    found.setdefault((node.inputs[0].source, user.key), []).append(key)
        return {key: source for (source, _), keys in found.items() if len(keys) > 2 for key in keys}

    def _level(self, node: Node) -> int:
        """Number of halvings between the image and this map."""
        if not node.inputs:
            return 0
        if node.key in self.branches:
            return self.places[node.inputs[0].source].level
        sources = [self.branches.get(edge.source, edge.source) for edge in node.inputs]
        befores = [self.places[source] for source in sources]
        if len(node.shape) == 1:
            return befores[0].level + (len(befores[0].node.shape) > 1)
        halvings = [math.log2(_side(p.node.shape) / _side(node.shape)) for p in befores]
        # a cropped map is not a power of two larger: trust the other one
        best = min(range(len(befores)), key=lambda k: abs(halvings[k] - round(halvings[k])))
        return befores[best].level + round(halvings[best])

    def _columns(self) -> None:
        """Set columns as close as their bodies, texts and the lines between them allow."""
        self.left = 24 + _LETTER * max(len(self._size(level)) for level in self._levels())
        self.gap: dict[int, float] = {}  # rank -> where lines turn, left of its column
        done: list[_Place] = []
        edge = self.left
        for rank in sorted({place.rank for place in self.places.values()}):
            column = [place for place in self.places.values() if place.rank == rank]
            sign = 18 if any(place.node.kind in _SIGNS for place in column) else 0
            widest = max(place.face[1] for place in column)
            x = edge
            for place in column:
                self._measure(place)
                inset = (widest - place.face[1]) / 2
                x = max(x, edge + 20 + sign - place.clear[0] - inset)
                for other in done:
                    if other.level == place.level:
                        for before, here in zip(other.spans, place.spans, strict=False):
                            x = max(x, other.x + before[1] + 8 - here[0] - inset)
            for place in column:
                place.x = x + (widest - place.face[1]) / 2
            self.gap[rank] = min(place.x + place.clear[0] for place in column) - 11
            edge = max(place.x + place.clear[1] for place in column)
            done += column
        self.width = 8 + max(place.x + end for place in done for _, end in place.spans)

    def _measure(self, place: _Place) -> None:
        """Find out which texts lines pass, and on which side the name may stick out."""
        before = [self.places[edge.source].level for edge in place.node.inputs]
        after = [self.places[node.key].level for node in self.users[place.node.key]]
        branch = place.node.key in self.branches
        above = [branch or any(n < place.level for n in levels) for levels in (before, after)]
        below = [branch or any(n > place.level for n in levels) for levels in (before, after)]
        if above[0] != above[1]:
            place.anchor = "start" if above[0] else "end"
        amount = place.span(_amount(place.node, self._odd(place)), "middle")
        name = place.span(max(place.lines, key=len, default=""), place.anchor)
        place.spans = [place.face, amount, name][: 3 if place.lines else 2]
        left, right = (
            [place.face] + [amount] * below[side] + place.spans[2:] * above[side] for side in (0, 1)
        )
        place.clear = min(start for start, _ in left), max(end for _, end in right)

    def _rows(self) -> None:
        top = 6.0
        self.bands: list[tuple[int, float, float]] = []  # level, top, bottom
        self.bus: dict[int, float] = {}  # level -> free height above everything in the row
        for level in self._levels():
            cells: dict[int, list[_Place]] = {}
            for place in self.places.values():
                if place.level == level:
                    cells.setdefault(place.rank, []).append(place)
            above = below = 0.0
            for cell in cells.values():  # lanes one below the other, their mean on the row's axis
                y = 0.0
                for place in cell:
                    place.y = y + place.above
                    y += place.above + place.below
                mean = sum(place.y for place in cell) / len(cell)
                for place in cell:
                    place.y -= mean
                above, below = max(above, mean), max(below, y - mean)
            center = top + (18 if self._needs_bus(level) else 6) + above
            self.bus[level] = top + 9
            for cell in cells.values():
                for place in cell:
                    place.y += center
            bottom = center + below + 4
            self.bands.append((level, top, bottom))
            top = bottom + 4
        self.height = top

    def _levels(self) -> list[int]:
        return sorted({place.level for place in self.places.values()})

    def _needs_bus(self, level: int) -> bool:
        return any(
            self.places[edge.source].level == level == place.level
            and self._blocked(self.places[edge.source], place, level)
            for place in self.places.values()
            for edge in place.node.inputs
        )

    def _blocked(self, start: _Place, end: _Place, level: int) -> bool:
        """Whether another map of this row stands between two columns."""
        return any(
            other.level == level and start.rank < other.rank < end.rank
            for other in self.places.values()
        )

    def _size(self, level: int) -> str:
        """What is written at the left of a row."""
        shapes = [p.node.shape for p in self.places.values() if p.level == level]
        maps = [shape for shape in shapes if len(shape) == 3]
        if not maps:
            return f"{shapes[0][0]} tokens" if len(shapes[0]) == 2 else "vector"
        image = next(iter(self.nodes.values())).shape
        if maps[0][1:] == (1, 1):
            return "1 × 1"
        exact = image[1] == maps[0][1] * 2**level and image[2] == maps[0][2] * 2**level
        about = "" if exact else "≈ "
        return about + (f"H/{2**level}" if level > 0 else f"{2**-level}H" if level < 0 else "H")

    def _role(self, node: Node) -> str:
        """Return the color of a map."""
        if node.kind == "image":
            return _GRAY
        if self._decoded(node):
            return _GREEN
        users = self.users[node.key]
        aside = len(users) == 1 and users[0].kind in _SIGNS
        if node.key in self.branches:
            return _PINK
        if aside and self.places[users[0].key].level == self.places[node.key].level:
            return _PINK
        return _BLUE

    def _decoded(self, node: Node) -> bool:
        """Whether the map was made from several, or after resolution was regained."""
        if node.kind in _SIGNS:
            return True
        sources = [self.nodes[edge.source] for edge in node.inputs]
        level = self.places[node.key].level
        return any(self.places[s.key].level > level or self._decoded(s) for s in sources)

    def draw(self) -> svg.Drawing:
        parts = [svg.ARROW]
        for level, top, bottom in self.bands:
            parts.append(
                f'<rect x="0" y="{top:.0f}" width="{self.width:.0f}" height="{bottom - top:.0f}" '
                f'rx="5" fill-opacity=".05"/>'
            )
            parts.append(svg.text(8, (top + bottom) / 2 + 4, self._size(level), "start"))
        edges = [
            (self.places[edge.source], edge, place)
            for place in self.places.values()
            for edge in place.node.inputs
        ]
        parts += [self._arrow(*edge) for edge in edges]
        parts += [self._map(place) for place in self.places.values()]
        signs = [kind for kind in _SIGNS if any(n.kind == kind for n in self.nodes.values())]
        key = [
            (color, word)
            for color, word in ((_BLUE, "encoder"), (_PINK, "branch or skip"), (_GREEN, "decoder"))
            if any(self._role(node) == color for node in self.nodes.values())
        ]
        parts.append(self._key(key if len(key) > 1 else [], signs))
        alt = _spoken(list(self.nodes.values()), self.title)
        return svg.drawing("".join(parts), alt, self.width, self.height + 26)

    def _key(self, colors: list[tuple[str, str]], signs: list[str]) -> str:
        x, y, parts = self.left, self.height + 17, []
        for color, word in colors:
            parts.append(
                f'<rect x="{x:.0f}" y="{y - 10:.0f}" width="11" height="11" fill="{color}"/>'
            )
            parts.append(svg.text(x + 16, y, word, "start"))
            x += 34 + _LETTER * len(word)
        for kind in signs:
            word = {"sum": "sum", "concat": "concatenation", "product": "product"}[kind]
            parts.append(_ring(x + 6, y - 4, _SIGNS[kind]) + svg.text(x + 18, y, word, "start"))
            x += 38 + _LETTER * len(word)
        self.width = max(self.width, x)
        return "".join(parts)

    def _map(self, place: _Place) -> str:
        node, color = place.node, self._role(place.node)
        x, y, w, h, d = place.x, place.y - place.height / 2, place.width, place.height, place.depth
        faces = [
            (1.0, f"M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h{-w:.1f}z"),
            (0.6, f"M{x:.1f} {y:.1f}l{d:.1f} {-d:.1f}h{w:.1f}l{-d:.1f} {d:.1f}z"),
            (0.8, f"M{x + w:.1f} {y:.1f}l{d:.1f} {-d:.1f}v{h:.1f}l{-d:.1f} {d:.1f}z"),
        ]
        parts = [f'<path d="{path}" fill-opacity="{shade}"/>' for shade, path in faces]
        middle = x + (w + d) / 2
        name_x = {"start": x, "end": x + w + d}.get(place.anchor, middle)
        for k, line in enumerate(reversed(place.lines)):
            parts.append(svg.text(name_x, y - d - 5 - _LINE * k, line, place.anchor))
        parts.append(svg.text(middle, y + h + _LINE, _amount(node, self._odd(place))))
        if node.kind in _SIGNS:
            parts.append(_ring(self._ring_x(place), place.y, _SIGNS[node.kind]))
        shape = " ".join(map(str, node.shape))
        return (
            f'<g fill="{color}" data-name="{html.escape(node.key)}" data-shape="{shape}">'
            f"{''.join(parts)}</g>"
        )

    def _odd(self, place: _Place) -> bool:
        """Whether the map is smaller than its row says: a branch that pools."""
        source = self.branches.get(place.node.key)
        return source is not None and self.nodes[source].shape[1:] != place.node.shape[1:]

    def _ring_x(self, place: _Place) -> float:
        return place.x - 10 - _RING

    def _arrow(self, start: _Place, edge: Edge, end: _Place) -> str:
        """Draw a connection that turns only in the gaps between columns."""
        joins = end.node.kind in _SIGNS
        first = start.x + start.clear[1] + 9
        last = self._ring_x(end) if joins else self.gap[end.rank]
        tip = self._ring_x(end) - _RING - 1 if joins else end.x - 2
        begin = (start.x + start.face[1] + 1, start.y)
        straight = abs(start.y - end.y) < 1
        free = not self._blocked(start, end, start.level)
        if straight and free:
            points = [begin, (tip, end.y)]
        elif free:  # along the row of the source
            points = [begin, (last, start.y), (last, end.y), (tip, end.y)]
        elif not self._blocked(start, end, end.level) and start.level != end.level:
            points = [begin, (first, start.y), (first, end.y), (tip, end.y)]
        else:
            height = self.bus[start.level]
            points = [begin, (first, start.y), (first, height), (last, height), (last, end.y)]
            points.append((tip, end.y))
        if joins and not (points[-2][1] == end.y and points[-2][0] < tip):
            points.pop()
            down = points[-2][1] < end.y
            points[-1] = (last, end.y - (_RING + 1) * (1 if down else -1))
        dash = ' stroke-dasharray="4 3"' if edge.indices else ""
        line = (
            f'<path d="{_rounded(points)}" fill="none" stroke="currentColor" stroke-width="1.3"'
            f'{dash} marker-end="url(##arrow)"/>'
        )
        return line + self._factor(start, edge, end, points)

    def _factor(
        self, start: _Place, edge: Edge, end: _Place, points: list[tuple[float, float]]
    ) -> str:
        """Write by how much the map is enlarged on its way."""
        arrived = end.node.shape if end.node.kind != "block" or not edge.via else edge.shape
        if len(arrived) != 3 or len(start.node.shape) != 3 or edge.indices or self._odd(start):
            return ""
        ratio = arrived[1] / start.node.shape[1]
        if ratio < (1.5 if end.node.kind in _SIGNS else 2.5):
            return ""  # from row to row without a word
        turns = [(abs(a[1] - b[1]), a, b) for a, b in pairwise(points)]
        _, (x, y), (_, other) = max(turns)
        return svg.text(x + 5, (y + other) / 2 + 4, f"×{round(ratio)}", "start")


def _side(shape: Sequence[int]) -> float:
    """Side of a feature map; of a sequence of tokens, that of the square they fill."""
    return (
        math.sqrt(shape[1] * shape[2])
        if len(shape) == 3
        else (math.sqrt(shape[0]) if len(shape) == 2 else 1.0)
    )


def _amount(node: Node, size: bool = False) -> str:
    """Return the number of channels, with the map's size where its row does not say it."""
    channels = node.shape[-1] if len(node.shape) == 2 else node.shape[0]
    return f"{channels}, {node.shape[1]} × {node.shape[2]}" if size else str(channels)


def _wrapped(node: Node) -> list[str]:
    """Break a label into short lines at underscores, points and spaces."""
    if node.kind in _SIGNS:
        return []
    label = node.label
    if label == node.key.split("#")[0] and "." in label:
        pieces = label.split(".")
        label = ".".join(pieces[-2:]) if pieces[-1].isdigit() else pieces[-1]
    lines = [""]
    for piece in re.findall(r"[^_. ]+[_. ]?", label):
        if lines[-1] and len(piece) > 2 and len(lines[-1]) + len(piece) > 10:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines]


def _ring(x: float, y: float, sign: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_RING:g}" fill="none" stroke="currentColor" '
        f'stroke-width="1.3"/>{svg.text(x, y + 4, sign)}'
    )


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


def _spoken(nodes: Sequence[Node], title: str) -> str:
    """Say what a diagram shows."""
    names = {node.key: node.label if node.kind == "block" else node.key for node in nodes}
    sentences = []
    previous = None
    for node in nodes:
        size = " × ".join(map(str, node.shape))
        if node.kind == "image":
            sentences.append(f"{title} on an image of {size}")
        else:
            sources = [
                names[edge.source] + (f" upsampled by {edge.via}" if edge.via else "")
                for edge in node.inputs
                if not edge.indices
            ]
            plain = sources == [previous]
            origin = "" if plain else f" of {' and '.join(sources)}"
            sentences.append(f"{names[node.key]}{origin}: {size}")
            pools = [names[edge.source] for edge in node.inputs if edge.indices]
            sentences[-1] += f", with pooling indices of {' and '.join(pools)}" if pools else ""
        previous = names[node.key]
    return "; ".join(sentences) + "."
