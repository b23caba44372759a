"""Diagrams: well formed, in the page's colors, with words, and true to the arithmetic."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from seglab import diagrams, models, tracing

SVG = "{http://www.w3.org/2000/svg}"
VALUES = [[1, 3, 2, 0], [4, 2, 1, 5], [0, 1, 9, 2], [7, 3, 1, 1]]


def fcn(name="fcn8s"):
    return models.create(name, preset="small")


def deeplab():
    with torch.device("meta"):
        return torchvision.models.segmentation.deeplabv3_resnet50(
            weights=None, weights_backbone=None
        )


def classifier(name):
    with torch.device("meta"):
        return torchvision.models.get_model(name)


DRAWINGS = {
    "fcn32s": lambda: diagrams.network(fcn("fcn32s")),
    "fcn16s": lambda: diagrams.network(fcn("fcn16s")),
    "fcn8s": lambda: diagrams.network(fcn()),
    "vgg16": lambda: diagrams.network(classifier("vgg16")),
    "resnet50": lambda: diagrams.network(classifier("resnet50")),
    "deeplabv3": lambda: diagrams.network(deeplab()),
    "convolution": lambda: diagrams.convolution(7, 3, stride=2, padding=1, at=(1, 2)),
    "dilated": lambda: diagrams.convolution(7, 3, dilation=2),
    "transposed": lambda: diagrams.transposed_convolution(3, 4, padding=1, at=(1, 1)),
    "pooling": lambda: diagrams.pooling(VALUES, unpool=True),
    "receptive field": lambda: diagrams.receptive_field([(3, 1), (2, 2), (3, 1, 2)]),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_diagram_is_well_formed_named_small_and_in_the_color_of_the_page(name):
    drawing = DRAWINGS[name]()
    root = ElementTree.fromstring(drawing.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == root[0].text == drawing.alt
    assert len(drawing.alt) > 60
    texts = list(root.iter(f"{SVG}text"))
    assert texts
    assert {text.get("fill") for text in texts} == {"currentColor"}
    colors = set(re.findall(r"#[0-9a-fA-F]{6}", drawing.svg))
    assert colors <= {"#0072B2", "#C978A6", "#009E73", "#7F7F7F"}
    assert "##" not in drawing.svg
    assert len(drawing.svg) < 20_000
    assert drawing == DRAWINGS[name]()


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_leaves_the_diagram(name):
    root = ElementTree.fromstring(DRAWINGS[name]().svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    for text in root.iter(f"{SVG}text"):
        long = 6.9 * len(text.text)
        left = (
            float(text.get("x"))
            - {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")] * long
        )
        assert left >= 0
        assert left + long <= width
        assert 0 < float(text.get("y")) <= height


def blocks_of(drawing):
    """Key, shape and the extent of the front face of every feature map."""
    found = {}
    for group in ElementTree.fromstring(drawing.svg).iter(f"{SVG}g"):
        x, y, w, h = map(
            float,
            re.match(r"M(\S+) (\S+)h(\S+)v([\d.]+)h", group.find(f"{SVG}path").get("d")).groups(),
        )
        shape = tuple(map(int, group.get("data-shape").split()))
        found[group.get("data-name")] = (shape, x, y, w, h)
    return found


def test_a_diagram_shows_the_maps_of_the_forward_pass_to_scale():
    model = fcn()
    maps = blocks_of(diagrams.network(model, (3, 128, 128)))
    nodes = tracing.trace(model, (3, 128, 128))
    assert {key: shape for key, (shape, *_) in maps.items()} == {
        node.key: node.shape for node in nodes
    }
    shape, _, _, width, height = maps["encoder.blocks.2"]
    _, _, _, image_width, image_height = maps["image"]
    assert height / image_height == pytest.approx((shape[1] / 128) ** 0.5, abs=0.01)
    assert (width - 2) / (image_width - 2) == pytest.approx((shape[0] / 3) ** 0.5, abs=0.1)


def test_the_encoder_descends_on_the_left_and_the_decoder_climbs_on_the_right():
    maps = blocks_of(diagrams.network(fcn()))
    path = ["image", "encoder.blocks.1", "encoder.blocks.3", "fc6", "sum 1", "sum 2", "upsample"]
    places = [(maps[key][1], maps[key][2] + maps[key][4] / 2) for key in path]
    assert all(a[0] < b[0] for a, b in pairwise(places))
    assert places[0][1] < places[1][1] < places[2][1] < places[3][1]
    assert places[3][1] > places[4][1] > places[5][1] > places[6][1]
    rows = maps["score_pool4"], maps["sum 1"]  # a skip stays in its row
    assert rows[0][2] == pytest.approx(rows[1][2], abs=0.2)


def test_parallel_branches_stand_below_each_other():
    maps = blocks_of(diagrams.network(deeplab()))
    branches = [maps[f"classifier.0.convs.{k}"] for k in range(5)]
    assert len({x for _, x, *_ in branches}) == 1
    assert [y for _, _, y, *_ in branches] == sorted({y for _, _, y, *_ in branches})


def test_the_alt_text_calls_maps_as_the_reader_sees_them():
    model = models.create("deconvnet", 6, preset="small")
    blocks = {"encoder.blocks.0": "pool1", "decoder.4": "deconv1"}
    alt = diagrams.network(model, (3, 128, 128), blocks=blocks).alt
    assert "with the positions of pool1" in alt
    assert "encoder.blocks" not in alt


def test_the_alt_text_tells_every_map_and_sum():
    alt = diagrams.network(fcn()).alt
    assert "FCN turns an image of 3 × 224 × 224 into 21 × 224 × 224" in alt
    assert "joined by 2 sums" in alt
    assert "score_pool4 of blocks.3: 21 × 14 × 14" in alt
    assert "sum 1 of score by upsample_fc7 and score_pool4: 21 × 14 × 14" in alt


def test_blocks_may_be_chosen_and_named():
    drawing = diagrams.network(fcn(), blocks={"fc6": "first", "upsample": "result"})
    texts = {text.text for text in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")}
    assert {"first", "result"} <= texts
    with pytest.raises(ValueError, match="fc9"):
        diagrams.network(fcn(), blocks=["fc9"])


def filled(drawing, color):
    """Row and column of the filled cells of that color, from the first of them."""
    cells = [
        (float(cell.get("y")), float(cell.get("x")))
        for cell in ElementTree.fromstring(drawing.svg).iter(f"{SVG}rect")
        if cell.get("fill") == color
    ]
    return [(round((y - cells[0][0]) / 26), round((x - cells[0][1]) / 26)) for y, x in cells]


@pytest.mark.parametrize(
    ("stride", "dilation", "padding"),
    [(s, d, p) for s in (1, 2, 3) for d in (1, 2, 3) for p in (0, 1, 2) if 7 + 2 * p > 2 * d + s],
)
def test_the_marked_cells_are_those_that_torch_uses(stride, dilation, padding):
    side, at = 7, (1, 1)
    padded = torch.zeros(1, 1, side + 2 * padding, side + 2 * padding, requires_grad=True)
    output = F.conv2d(padded, torch.ones(1, 1, 3, 3), stride=stride, dilation=dilation)
    output[0, 0, *at].backward()
    used = padded.grad[0, 0].nonzero()
    expected = [tuple(cell) for cell in (used - used[0]).tolist()]
    drawing = diagrams.convolution(
        side, 3, at=at, stride=stride, dilation=dilation, padding=padding
    )
    assert filled(drawing, "#0072B2") == expected
    assert f"output {output.shape[-1]} × {output.shape[-1]}" in drawing.svg


def test_the_patch_of_a_transposed_convolution_is_the_one_of_torch():
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1] = 1
    output = F.conv_transpose2d(image, torch.ones(1, 1, 4, 4), stride=2, padding=1)
    used = output[0, 0].nonzero()
    drawing = diagrams.transposed_convolution(3, 4, stride=2, padding=1, at=(1, 1))
    assert filled(drawing, "#009E73") == [tuple(cell) for cell in (used - used[0]).tolist()]
    assert f"output {output.shape[-1]} × {output.shape[-1]}" in drawing.svg


def test_pooling_and_unpooling_are_those_of_torch():
    values = torch.tensor(VALUES, dtype=torch.float)[None, None]
    pooled, places = F.max_pool2d(values, 2, return_indices=True)
    unpooled = F.max_unpool2d(pooled, places, 2)
    drawing = diagrams.pooling(VALUES, unpool=True)
    numbers = [
        float(text.text)
        for text in ElementTree.fromstring(drawing.svg).iter(f"{SVG}text")
        if text.text.isdigit()
    ]
    expected = torch.cat([values.flatten(), pooled.flatten(), unpooled.flatten()])
    np.testing.assert_array_equal(numbers, expected)


def brightness(color):
    """Relative luminance of an sRGB color, WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize(("ink", "page"), [("#323232", "#ffffff"), ("#ced6dd", "#121212")])
def test_numbers_on_colored_cells_have_contrast_in_light_and_dark(ink, page):
    def channels(color):
        return np.array([int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)])

    cells = ElementTree.fromstring(diagrams.pooling(VALUES).svg).iter(f"{SVG}rect")
    painted = {
        (c.get("fill"), float(c.get("fill-opacity"))) for c in cells if "#" in c.get("fill", "")
    }
    assert len(painted) == 2
    for color, opacity in painted:
        ground = opacity * channels(color) + (1 - opacity) * channels(page)
        dark, light = sorted(map(brightness, (channels(ink), ground)))
        assert (light + 0.05) / (dark + 0.05) > 4.5


@pytest.mark.parametrize(
    "layers", [[(3, 1)] * 3, [(3, 1), (2, 2), (3, 1), (2, 2)], [(3, 1, 1), (3, 1, 2), (3, 1, 4)]]
)
def test_the_receptive_field_is_the_one_that_gradients_reach(layers):
    image = torch.zeros(1, 1, 64, requires_grad=True)
    features = image
    for kernel, stride, *dilation in layers:
        features = F.conv1d(
            features, torch.ones(1, 1, kernel), stride=stride, dilation=dilation or 1
        )
    features[0, 0, 3].backward()
    used = image.grad[0, 0].nonzero()
    drawing = diagrams.receptive_field(layers)
    assert f"spans {int(used.max() - used.min()) + 1} pixels" in drawing.alt
    assert f"of which {len(used)} are used" in drawing.alt


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        diagrams.convolution(3, 3, dilation=2)
    with pytest.raises(ValueError, match=r"no cell \(3, 0\)"):
        diagrams.convolution(5, 3, at=(3, 0))
    with pytest.raises(ValueError, match=r"no cell \(0, 3\)"):
        diagrams.transposed_convolution(3, at=(0, 3))
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        diagrams.pooling(np.zeros((3, 4)))
