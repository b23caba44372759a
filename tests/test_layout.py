"""Diagrams of every kind of network: nothing overlaps, nothing is crossed, all stays inside."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
import torch
import torchvision

from seglab import architecture, models, tracing
from seglab.layout import Layout
from tests.networks import Atrous, Functional, Pyramid, Taps, Unet, Unpooling

SVG = "{http://www.w3.org/2000/svg}"
LETTER = 6.6  # mean width of a letter of 12 pixels, about


def torchvision_model(name):
    segments = name in torchvision.models.list_models(torchvision.models.segmentation)
    return torchvision.models.get_model(
        name, weights=None, **({"weights_backbone": None} if segments else {})
    )


OTHERS = (
    "vgg16",
    "resnet18",
    "resnet50",
    "fcn_resnet50",
    "deeplabv3_resnet50",
    "lraspp_mobilenet_v3_large",
    "vit_b_16",
)
NETWORKS = {
    **{name: (lambda name=name: torchvision_model(name)) for name in OTHERS},
    **{kind.__name__: kind for kind in (Atrous, Functional, Pyramid, Taps, Unet, Unpooling)},
    **{name: (lambda name=name: models.create(name)) for name in models.names()},
}


@pytest.fixture(scope="module", params=NETWORKS)
def nodes(request):
    with torch.device("meta"):
        model = NETWORKS[request.param]()
    return tracing.trace(model, (3, 224, 224))


def texts(root):
    """Words and rectangle of every text."""
    found = []
    for text in root.iter(f"{SVG}text"):
        long = LETTER * len(text.text)
        x, y = float(text.get("x")), float(text.get("y"))
        left = x - {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")] * long
        found.append((text.text, (left, left + long, y - 9, y + 2)))
    return found


def faces(root):
    """Rectangle of the front face of every block."""
    pattern = re.compile(r"M(\S+) (\S+)h([\d.]+)v([\d.]+)h-[\d.]+z$")
    paths = [path.get("d") for group in root.iter(f"{SVG}g") for path in group.iter(f"{SVG}path")]
    blocks = [tuple(map(float, found.groups())) for d in paths if (found := pattern.match(d))]
    return [(x, x + w, y, y + h) for x, y, w, h in blocks]


def lines(root):
    """Straight parts of every arrow, as (nearly) flat rectangles."""
    for path in root.iter(f"{SVG}path"):
        if path.get("marker-end"):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
            points = list(zip(numbers[::2], numbers[1::2], strict=True))
            for (a, b), (c, d) in itertools.pairwise(points):
                yield min(a, c), max(a, c), min(b, d), max(b, d)


def overlap(one, other):
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def test_no_text_block_or_line_lies_on_another(nodes):
    root = ElementTree.fromstring(architecture.draw(nodes, "Net").svg)
    words, blocks, arrows = texts(root), faces(root), list(lines(root))
    assert len(blocks) >= len(nodes)
    for (first, one), (second, other) in itertools.combinations(words, 2):
        assert not overlap(one, other), f"{first!r} lies on {second!r}"
    for word, place in words:
        for block in blocks:
            assert not overlap(place, block), f"{word!r} lies on a block"
        for arrow in arrows:
            if word not in "+C×":  # a sign is where arrows end
                assert not overlap(place, arrow), f"an arrow crosses {word!r}"
    for one, other in itertools.combinations(blocks, 2):
        assert not overlap(one, other)
    for block in blocks:
        inner = (block[0] + 1, block[1] - 1, block[2] + 1, block[3] - 1)
        assert not any(overlap(inner, arrow) for arrow in arrows), "an arrow crosses a block"


def test_everything_stays_inside_and_is_not_too_wide_for_a_page(nodes):
    drawing = architecture.draw(nodes, "Net")
    root = ElementTree.fromstring(drawing.svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    for left, right, top, bottom in [*faces(root), *(place for _, place in texts(root))]:
        assert 0 <= left <= right <= width
        assert 0 <= top <= bottom <= height
    assert width < 1300
    assert len(drawing.svg) < 25_000


def test_lines_of_different_maps_do_not_share_a_way(nodes):
    layout = Layout(nodes)
    rises = {}
    for route in layout.routes:
        for gap, top, bottom in route.rises():
            if gap in route.turns:
                rises.setdefault(gap, []).append((route, route.turns[gap], top, bottom))
    for group in rises.values():
        for (a, x, top, bottom), (b, u, start, end) in itertools.combinations(group, 2):
            if a.start is not b.start and a.end is not b.end:
                assert abs(x - u) > 4 or bottom <= start or end <= top


def test_the_alt_text_begins_with_a_summary_and_stays_short(nodes):
    alt = architecture.draw(nodes, "Net").alt
    first, last = (" × ".join(map(str, nodes[k].shape)) for k in (0, -1))
    assert alt.startswith(f"Net turns an image of {first} into {last}, through maps down to ")
    assert alt.endswith(f": {last}.")
    assert len(alt) < 1000


@pytest.mark.parametrize("network", [Unet, Functional, Unpooling])
def test_an_encoder_descends_on_the_left_and_its_decoder_climbs_on_the_right(network):
    layout = Layout(tracing.trace(network(), (3, 64, 64)))
    rows = [place.level for place in layout.places.values()]
    deepest = rows.index(max(rows))
    assert rows[: deepest + 1] == sorted(rows[: deepest + 1])
    assert rows[deepest:] == sorted(rows[deepest:], reverse=True)
    xs = [place.x for place in layout.places.values()]
    assert xs == sorted(xs)


def test_skips_of_a_unet_run_straight_across():
    layout = Layout(tracing.trace(Unet(), (3, 64, 64)))
    skips = [route for route in layout.routes if route.end.joins and not route.edge.via]
    assert len(skips) == 2
    for route in skips:
        assert len(route.points()) == 2
        assert route.start.y == route.end.y


def test_the_map_beside_a_pyramid_goes_around_its_branches():
    layout = Layout(tracing.trace(Pyramid(), (3, 64, 64)))
    (around,) = [r for r in layout.routes if r.end.joins and not r.start.node.branch]
    tops = [p.y - p.above for p in layout.places.values() if p.node.branch]
    assert around.y < min(tops)


def test_taps_of_a_transformer_keep_lanes_of_their_own():
    layout = Layout(tracing.trace(Taps(), (3, 64, 64)))
    layers = [p for key, p in layout.places.items() if key.startswith("layers")]
    assert {place.lane for place in layers} == {0}
    taps = [layout.places[f"reduce.{k}"] for k in (0, 1)]
    assert len({0, *(place.lane for place in taps)}) == 3


def test_a_row_of_equal_blocks_is_drawn_as_three():
    drawing = architecture.draw(tracing.trace(Taps(), (3, 64, 64)), "Taps")
    groups = ElementTree.fromstring(drawing.svg).iter(f"{SVG}g")
    blocks = {group.get("data-name"): len(group.findall(f"{SVG}path")) // 3 for group in groups}
    assert blocks["layers.3"] == 3
    assert blocks["embed"] == 1
    assert "layers.0–3 (4 blocks)" in drawing.alt


def test_positions_of_maxima_are_dashed_and_explained():
    drawing = architecture.draw(tracing.trace(Functional(), (3, 64, 64)), "Net")
    assert drawing.svg.count("stroke-dasharray") == 2 + 1
    assert "positions of maxima" in drawing.svg
    assert "up.2: 8 × 64 × 64, with the positions of down.0" in drawing.alt
