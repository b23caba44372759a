"""Where the feature maps of an architecture stand in its diagram, and how its lines run.

Columns follow the order of computation and rows the resolution. Within a row, what runs at the
same time runs in lanes, one below the other; a line keeps to a lane on its way along a row, and
turns only between two columns, where it crosses neither a map nor a text.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from seglab.tracing import Edge, Node

LINE = 15.0  # height of a line of text, CSS pixels
LETTER = 6.9  # mean width of a letter of 12 pixels
RING = 8.0  # radius of the sign of a sum or concatenation
SIGNS = {"sum": "+", "concat": "C", "product": "×"}
_TALLEST = 72.0  # height of the image
_SLICES = 3  # blocks drawn for a row of equal ones
_WORDS = 10  # letters in a line of a name, about


class Box(NamedTuple):
    """A rectangle that nothing else may cross."""

    left: float
    right: float
    top: float
    bottom: float

    def beside(self, top: float, bottom: float) -> bool:
        """Whether it stands at that height."""
        return self.top < bottom and top < self.bottom


@dataclass
class Place:
    """Where a feature map stands: its front face, its name above it, its channels below it."""

    node: Node
    rank: int
    level: int
    width: float  # of one block
    height: float
    lines: list[str]
    amount: str
    lane: int = 0
    anchor: str = "middle"  # of the name
    x: float = 0.0  # left edge
    y: float = 0.0  # center

    @property
    def joins(self) -> bool:
        """Whether it is a sum, concatenation or product, with a sign on its left."""
        return self.node.kind in SIGNS

    @property
    def depth(self) -> float:
        """How far the body reaches to the right and up behind its face."""
        return 0.2 * self.height

    @property
    def slices(self) -> list[float]:
        """Left edges of the blocks that stand for this map, from its own left edge."""
        return [k * (self.width + 4) for k in range(min(self.node.count, _SLICES))]

    @property
    def right(self) -> float:
        """Right end of the body."""
        return self.x + self.slices[-1] + self.width + self.depth

    @property
    def middle(self) -> float:
        """Center of the body."""
        return (self.x + self.right) / 2

    @property
    def ring_x(self) -> float:
        """Center of the sign."""
        return self.x - 10 - RING

    @property
    def entry(self) -> float:
        """Where lines from the left end."""
        return self.ring_x - RING - 1 if self.joins else self.x - 2

    @property
    def above(self) -> float:
        """Height above the center, with the name."""
        return self.height / 2 + self.depth + LINE * len(self.lines) + 4

    @property
    def below(self) -> float:
        """Height below the center, with the number of channels."""
        return self.height / 2 + LINE + 5

    @property
    def name_at(self) -> tuple[float, float]:
        """Anchor of the name's last line."""
        x = {"start": self.x, "end": self.right}.get(self.anchor, self.middle)
        return x, self.y - self.height / 2 - self.depth - 5

    def name_box(self) -> Box:
        """Return the rectangle of the name."""
        x, y = self.name_at
        long = LETTER * max(map(len, self.lines), default=0)
        left = x - {"start": 0.0, "end": long}.get(self.anchor, long / 2)
        return Box(left, left + long, y - LINE * len(self.lines), y + 4)

    def boxes(self) -> list[Box]:
        """What others must keep clear of."""
        top, bottom = self.y - self.height / 2, self.y + self.height / 2
        long = LETTER * len(self.amount)
        found = [
            Box(self.x, self.right, top - self.depth, bottom),
            Box(self.middle - long / 2, self.middle + long / 2, bottom + 2, bottom + LINE + 5),
        ]
        if self.lines:
            found.append(self.name_box())
        if self.joins:
            found.append(Box(self.ring_x - RING, self.x, self.y - RING, self.y + RING))
        return found


@dataclass
class Route:
    """A line from map to map: along a lane, with at most one turn on each side of it."""

    start: Place
    edge: Edge
    end: Place
    level: int  # row and lane of its way along
    lane: int
    y: float = 0.0
    turns: dict[int, float] = field(default_factory=dict)  # gap between columns -> x

    @property
    def factor(self) -> str:
        """By how much the map is enlarged on its way."""
        joins, via = self.end.joins, self.edge.via
        arrived = self.edge.shape if via and not joins else self.end.node.shape
        before = self.start.node
        if len(arrived) != 3 or len(before.shape) != 3 or self.edge.indices or before.branch:
            return ""
        ratio = arrived[1] / before.shape[1]
        if ratio < (1.5 if joins else 2.5):
            return ""  # from row to row without a word
        return f"×{round(ratio)}"

    def points(self) -> list[tuple[float, float]]:
        """Corners, from the source to the tip of the arrow."""
        start, end = self.start, self.end
        corners = [(start.right + 1, start.y)]
        if start.rank in self.turns and start.y != self.y:
            x = self.turns[start.rank]
            corners += [(x, start.y), (x, self.y)]
        if self.y == end.y:
            return [*corners, (end.entry, end.y)]
        if end.joins:  # onto the sign from above or below
            side = RING + 1 if self.y > end.y else -RING - 1
            return [*corners, (end.ring_x, self.y), (end.ring_x, end.y + side)]
        x = self.turns[end.rank - 1]
        return [*corners, (x, self.y), (x, end.y), (end.entry, end.y)]

    def rises(self) -> Iterator[tuple[int, float, float]]:
        """Gap between columns, top and bottom of each vertical part."""
        if self.start.y != self.y:
            yield self.start.rank, min(self.start.y, self.y), max(self.start.y, self.y)
        if self.y != self.end.y:
            yield self.end.rank - 1, min(self.y, self.end.y), max(self.y, self.end.y)


class Layout:
    """Places and routes of a traced architecture.

    Parameters
    ----------
    nodes : list of Node
        What `seglab.tracing.trace` returned.

    Attributes
    ----------
    places : dict of str to Place
        By the node's key.
    routes : list of Route
    bands : list of (str, float, float)
        Name, top and bottom of each row.
    width, height : float
        CSS pixels.
    """

    def __init__(self, nodes: list[Node]):
        self.places: dict[str, Place] = {}
        side = max(_side(node.shape) for node in nodes)
        names = _names(nodes)
        for node in nodes:
            self.places[node.key] = Place(
                node,
                max((self.places[edge.source].rank + 1 for edge in node.inputs), default=0),
                self._level(node),
                2 + 0.7 * math.sqrt(node.shape[-1] if len(node.shape) == 2 else node.shape[0]),
                max(10.0, _TALLEST * math.sqrt(_side(node.shape) / side)),
                [names[node.key]] if node.branch else _wrapped(names[node.key]),
                self._amount(node),
            )
        self.users: dict[str, list[Place]] = {key: [] for key in self.places}
        for place in self.places.values():
            for edge in place.node.inputs:
                self.users[edge.source].append(place)
        self.seats: dict[tuple[int, int, int], Place] = {}  # row, lane, column -> map
        self.lines: dict[tuple[int, int, int], set[str]] = {}  # -> ends of the line there
        self._set_lanes()
        self.routes = [
            self._route(self.places[edge.source], edge, place)
            for place in self.places.values()
            for edge in _drawn(place.node.inputs)
        ]
        self._set_rows()
        self._set_columns()

    def _level(self, node: Node) -> int:
        """Number of halvings between the image and this map."""
        if not node.inputs:
            return 0
        if node.branch:
            return self.places[node.branch].level
        befores = [self.places[edge.source] for edge in node.inputs]
        befores = [self.places[p.node.branch] if p.node.branch else p for p in befores]
        if len(node.shape) == 1:
            return befores[0].level + (len(befores[0].node.shape) > 1)
        halvings = [math.log2(_side(p.node.shape) / _side(node.shape)) for p in befores]
        # a cropped map is not a power of two larger: trust the other one
        best = min(range(len(befores)), key=lambda k: abs(halvings[k] - round(halvings[k])))
        return befores[best].level + round(halvings[best])

    def _amount(self, node: Node) -> str:
        """Return the number of channels, with the map's size where its row does not say it."""
        channels = node.shape[-1] if len(node.shape) == 2 else node.shape[0]
        size = " × ".join(map(str, node.shape[1:]))
        pools = node.branch and self.places[node.branch].node.shape[1:] != node.shape[1:]
        return f"{channels}, {size}" if pools and size not in node.label else str(channels)

    def _set_lanes(self) -> None:
        """Keep the longest path through a row in its first lane, and a line in one lane."""
        ahead: dict[str, int] = {}  # maps on the longest path to the end
        for key in reversed(self.places):
            ahead[key] = 1 + max((ahead[user.node.key] for user in self.users[key]), default=0)
        follower: dict[str, Place] = {}  # who goes on in the lane of a map
        for key, place in self.places.items():
            beside = [user for user in self.users[key] if user.level == place.level]
            if beside:
                follower[key] = max(beside, key=lambda user: ahead[user.node.key])
        order = sorted(self.places.values(), key=lambda p: (p.rank, -ahead[p.node.key]))
        for place in order:
            node = place.node
            before = [self.places[edge.source] for edge in node.inputs]
            before = [p for p in before if p.level == place.level]
            led = [p.lane for p in before if follower[p.node.key] is place]
            lanes = [*sorted(led, key=abs), *(p.lane for p in before), *range(len(order))]
            for lane in lanes:
                seat = (place.level, lane, place.rank)
                seated = self.seats.get(seat)
                if seated and node.branch and seated.node.branch == node.branch:
                    break  # all branches share a lane, one below the other
                if not seated and self._free(*seat[:2], [place.rank], {node.key}):
                    self.seats[seat] = place
                    break
            place.lane = lane
            if node.key in follower:
                ranks = range(place.rank + 1, follower[node.key].rank + 1)
                owners = {node.key, follower[node.key].node.key}
                self._take(place.level, lane, ranks, owners)

    def _free(self, level: int, lane: int, ranks: Iterable[int], owners: set[str]) -> bool:
        """Whether no line of others runs there."""
        cells = (self.lines.get((level, lane, rank)) for rank in ranks)
        return all(found is None or found & owners for found in cells)

    def _take(self, level: int, lane: int, ranks: Iterable[int], owners: set[str]) -> None:
        for rank in ranks:
            self.lines.setdefault((level, lane, rank), set()).update(owners)

    def _route(self, start: Place, edge: Edge, end: Place) -> Route:
        """Choose the lane along which a line runs."""
        owners = {start.node.key, end.node.key}
        same = (start.level, start.lane) == (end.level, end.lane)
        ranks = range(start.rank + 1, end.rank + (not same))
        options = [(start.level, start.lane, ranks)]
        if end.rank == start.rank + 1:
            return Route(start, edge, end, *options[0][:2])
        options.append((end.level, end.lane, range(start.rank + 1, end.rank)))
        for distance in range(1, len(self.places)):
            for lane in (-distance, distance):
                options.append((start.level, lane, range(start.rank, end.rank + 1)))
        level, lane, ranks = next(
            option
            for option in options
            if self._free(*option, owners)
            and not any((*option[:2], rank) in self.seats for rank in option[2])
        )
        self._take(level, lane, ranks, owners)
        return Route(start, edge, end, level, lane)

    def _set_rows(self) -> None:
        """Set rows from the finest to the coarsest, their lanes below each other."""
        top, self.bands = 6.0, []
        axes: dict[tuple[int, int], float] = {}
        for level in sorted({place.level for place in self.places.values()}):
            y = top + 6
            lanes = {place.lane for place in self.places.values() if place.level == level}
            lanes |= {route.lane for route in self.routes if route.level == level}
            for lane in sorted(lanes):
                above = below = 6.0
                for cell in self._cells(level, lane):
                    _stack(cell)
                    above = max(above, *(place.above - place.y for place in cell))
                    below = max(below, *(place.y + place.below for place in cell))
                axes[level, lane] = y + above
                y += above + below
            self.bands.append((self._size(level), top, y + 2))
            top = y + 6
        for place in self.places.values():
            place.y += axes[place.level, place.lane]
        for route in self.routes:
            route.y = axes[route.level, route.lane]
            if (route.level, route.lane) == (route.start.level, route.start.lane):
                route.y = route.start.y  # that of a branch is not the lane's own
        self.height = top

    def _cells(self, level: int, lane: int) -> list[list[Place]]:
        cells: dict[int, list[Place]] = {}
        for place in self.places.values():
            if (place.level, place.lane) == (level, lane):
                cells.setdefault(place.rank, []).append(place)
        return list(cells.values())

    def _size(self, level: int) -> str:
        """What is written at the left of a row."""
        shapes = [place.node.shape for place in self.places.values() if place.level == level]
        maps = [shape for shape in shapes if len(shape) == 3]
        if not maps:
            return f"{shapes[0][0]} tokens" if len(shapes[0]) == 2 else "vector"
        image = next(iter(self.places.values())).node.shape
        if maps[0][1:] == (1, 1):
            return "1 × 1"
        exact = image[1] == maps[0][1] * 2**level and image[2] == maps[0][2] * 2**level
        about = "" if exact else "≈ "
        return about + (f"H/{2**level}" if level > 0 else f"{2**-level}H" if level < 0 else "H")

    def _set_columns(self) -> None:
        """Set columns as close as maps, texts and the lines between them allow."""
        middles = [(name, (top + bottom) / 2) for name, top, bottom in self.bands]
        boxes = [Box(8, 12 + LETTER * len(name), y - 8, y + 8) for name, y in middles]
        edge = 0.0
        for rank in range(1 + max(place.rank for place in self.places.values())):
            column = [place for place in self.places.values() if place.rank == rank]
            turns = self._set_turns(rank - 1, edge, boxes)
            for place in column:
                self._set_anchor(place)
            widest = max(place.right - place.x for place in column)
            for place in column:
                place.x = (widest - (place.right - place.x)) / 2
            x = edge + 10
            for place in column:
                for route in self.routes:
                    if route.end is place:
                        turn = turns.get((route.start.node.key, rank - 1))
                        begin = route.start.right + 8 if turn is None else turn
                        x = max(x, begin + 11 - place.entry)
                for own in [*place.boxes(), *self._onto_sign(place)]:
                    for box in boxes:
                        if box.beside(own.top, own.bottom):
                            x = max(x, box.right + 8 - own.left)
            for place in column:
                place.x += x
                boxes += place.boxes()
            edge = max(place.right for place in column)
        self.width = 8 + max(box.right for box in boxes)

    def _onto_sign(self, place: Place) -> list[Box]:
        """Lines that end on a sign from above and below."""
        routes = [route for route in self.routes if route.end is place and place.joins]
        return [
            Box(place.ring_x - 2, place.ring_x + 2, *sorted((route.y, place.y)))
            for route in routes
            if route.y != place.y
        ]

    def _set_turns(self, gap: int, edge: float, boxes: list[Box]) -> dict[tuple[str, int], float]:
        """Set the vertical lines of a gap; lines of different sources do not touch."""
        found: dict[tuple[str, int], float] = {}
        groups: dict[str, list[tuple[Route, float, float]]] = {}
        for route in self.routes:
            for where, top, bottom in route.rises():
                if where == gap and not (route.end.joins and route.y == route.start.y):
                    groups.setdefault(route.start.node.key, []).append((route, top, bottom))
        for source, rises in groups.items():
            top = min(top for _, top, _ in rises)
            bottom = max(bottom for _, _, bottom in rises)
            near = [box.right for box in boxes if box.beside(top - 2, bottom + 2)]
            x = max([edge + 8, *(right + 7 for right in near)])
            for route, *span in rises:
                route.turns[gap] = x
                if word := route.factor:
                    middle = sum(span) / 2
                    boxes.append(Box(x, x + 9 + LETTER * len(word), middle - 8, middle + 8))
            boxes.append(Box(x - 1, x + 1, top, bottom))
            found[source, gap] = x
        return found

    def _set_anchor(self, place: Place) -> None:
        """Let a name stick out to the side where no line passes it."""
        box, busy = place.name_box(), [False, False]
        for route in self.routes:
            for gap, top, bottom in route.rises():
                if place.rank - 1 <= gap <= place.rank and box.beside(top, bottom):
                    busy[gap - place.rank + 1] = True
        if place.node.branch or busy == [True, False]:
            place.anchor = "start"
        elif busy == [False, True]:
            place.anchor = "end"


def _drawn(edges: list[Edge]) -> list[Edge]:
    """Where a map comes along with its indices, one line is enough."""
    maps = {edge.source for edge in edges if not edge.indices}
    return [edge for edge in edges if not edge.indices or edge.source not in maps]


def _stack(cell: list[Place]) -> None:
    """Set the maps of a cell below each other, the middle one on the lane's axis."""
    y = 0.0
    for place in cell:
        place.y = y + place.above
        y += place.above + place.below
    half = len(cell) // 2
    axis = (cell[half].y + cell[-half - 1].y) / 2
    for place in cell:
        place.y -= axis


def _side(shape: Sequence[int]) -> float:
    """Side of a feature map; of a sequence of tokens, that of the square they fill."""
    if len(shape) == 3:
        return math.sqrt(shape[1] * shape[2])
    return math.sqrt(shape[0]) if len(shape) == 2 else 1.0


def _names(nodes: list[Node]) -> dict[str, str]:
    """Return what is written above each map: of a module's path the end that tells it apart."""
    names = {node.key: "" if node.kind in SIGNS else node.label for node in nodes}
    paths = {key: name.split(".") for key, name in names.items() if " " not in name}
    for key, pieces in paths.items():
        names[key] = ".".join(pieces[-2:]) if pieces[-1][:1].isdigit() else pieces[-1]
    often = Counter(names.values())
    for key, pieces in paths.items():
        numbers = [k for k, piece in enumerate(pieces) if piece.isdigit()]
        if often[names[key]] > 1 and numbers:
            names[key] = ".".join(pieces[max(numbers[-1] - 1, 0) :])
    return names


def _wrapped(name: str) -> list[str]:
    """Break a name into short lines, at commas, and at underscores, points and spaces."""
    lines = []
    for part in name.split(", ") if name else ():
        lines.append("")
        for piece in re.findall(r"[^_. ]+[_. ]?", part):
            if lines[-1] and len(lines[-1]) + len(piece) > _WORDS:
                lines.append("")
            lines[-1] += piece
    return [line.strip() for line in lines]
