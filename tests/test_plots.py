"""Figures: readable in light and dark, never without words, small."""

import re
import types
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from seglab import plots, svg
from seglab.labels import CAMVID, SCENES

# Machado, Oliveira and Fernandes 2009, severity 1: what color-blind eyes see of linear RGB.
EYES = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


@pytest.fixture(autouse=True)
def _style():
    with matplotlib.rc_context():
        plots.use_style()
        yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What `show` hands to the notebook."""
    outputs = []
    monkeypatch.setattr(plots, "display", lambda output: outputs.append(output.data))
    return outputs


def linear(color):
    channels = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    light, dark = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb):
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = np.clip(to_xyz @ rgb / [0.9505, 1, 1.089], 0, None)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def curve():
    figure, axes = plt.subplots()
    axes.plot([0, 1, 2], [3, 1, 2], label="γ = 2")
    axes.set(xlabel="step", ylabel="loss <nats> & more")
    axes.legend()
    return figure


def scene():
    mask = torch.randint(0, 6, (24, 32))
    mask[3] = 255
    return torch.rand(3, 24, 32), mask


def history(offset=0.0):
    steps = list(range(100))
    losses = [2.0 / (1 + step) + offset for step in steps]
    return types.SimpleNamespace(
        steps=steps, losses=losses, valid_steps=[50, 100], mean_ious=[0.2, 0.4]
    )


def figures():
    image, mask = scene()
    return {
        "images": plots.images([image, mask], ["image", "truth"], SCENES),
        "legend": plots.legend(CAMVID, ignored=True),
        "history": plots.history({"a": history(), "b": history(0.1)}),
        "confusion": plots.confusion(torch.eye(6) * 3, SCENES),
        "bars": plots.iou_bars({"a": torch.rand(6), "b": torch.rand(6)}, SCENES),
        "curve": curve(),
    }


@pytest.mark.parametrize("color", plots.CURVES)
@pytest.mark.parametrize("ground", ["#ffffff", "#121212"])
def test_curve_colors_stand_out_on_light_and_dark(color, ground):
    assert contrast(color, ground) >= 3


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize(
    ("colors", "least"),
    [(plots.CURVES, 12), (["#{:02x}{:02x}{:02x}".format(*c) for c in SCENES.colors], 20)],
    ids=["curves", "scenes"],
)
def test_colors_differ_for_color_blind_eyes(eye, colors, least):
    seen = [lab(np.clip(EYES[eye] @ linear(color), 0, 1)) for color in colors]
    for i, a in enumerate(seen):
        for b in seen[:i]:
            assert np.linalg.norm(a - b) > least


def test_a_receptive_field_is_drawn_with_the_size_that_theory_gives():
    found = torch.zeros(64, 96)
    found[32, 48] = 1
    figure = plots.receptive_field(found, 33)
    axes = figure.axes[0]
    (frame,) = axes.patches
    assert (frame.get_width(), frame.get_height()) == (33, 33)
    assert frame.get_x() + 33 / 2 == 48
    assert frame.get_y() + 33 / 2 == 32
    assert axes.images[0].get_array().max() == 1
    assert not plots.receptive_field(found, float("inf")).axes[0].patches
    with pytest.raises(ValueError, match=r"\(1, 64, 96\)"):
        plots.receptive_field(found[None], 33)


@pytest.mark.parametrize("name", ["images", "legend", "history", "confusion", "bars", "curve"])
def test_every_figure_is_well_formed_small_and_takes_the_color_of_the_page(name):
    drawing = svg.from_figure(figures()[name], f"the {name}")
    root = ElementTree.fromstring(drawing.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"the {name}"
    assert root[0].text == f"the {name}"
    assert "currentColor" in drawing.svg
    assert not re.search(r"#000000|#ffffff(?!.*<text)|DejaVu|<style|<metadata", drawing.svg[500:])
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        ink = re.search(r"fill: (#\w+)", text.get("style", ""))
        assert ink is None or name == "confusion"  # there, text stands on colored cells
    assert len(drawing.svg) < 60_000


@pytest.mark.parametrize(("size", "share"), [(5, 0.84), (10, 0.75), (12, 0.625), (20, 0.5)])
def test_a_figure_shrinks_until_its_smallest_text_has_ten_pixels(size, share):
    figure = plt.figure(figsize=(6, 2))
    figure.text(0.1, 0.5, "small", size=size)
    figure.text(0.9, 0.5, "large", size=2 * size)
    drawing = svg.from_figure(figure, "two words")
    (least,) = re.findall(r"min-width:(\d+)px", drawing.svg)
    assert float(least) == pytest.approx(share * drawing.width, abs=1)
    assert share in (0.84, 0.5) or size * 4 / 3 * share == pytest.approx(10)


def test_text_of_a_figure_is_escaped_and_stays_text():
    drawing = svg.from_figure(curve(), 'loss < 1 & "falling"')
    root = ElementTree.fromstring(drawing.svg)
    assert root.get("aria-label") == 'loss < 1 & "falling"'
    assert "loss <nats> & more" in [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


def test_equal_figures_give_equal_markup_and_ids_start_with_the_prefix():
    first, second = svg.from_figure(curve(), "a curve"), svg.from_figure(curve(), "a curve")
    assert first == second
    ids = re.findall(r' id="([^"]+)"', first.svg)
    assert ids
    assert all(name.startswith(first.prefix) for name in ids)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', first.svg)
    assert set(references) == set(ids)
    assert svg.from_figure(curve(), "another").prefix != first.prefix


def test_a_drawing_that_is_shown_twice_has_no_id_twice(shown):
    for _ in range(2):
        plots.show(curve(), "shown twice")
    ids = re.findall(r' id="([^"]+)"', "".join(shown))
    assert len(ids) == len(set(ids))


def test_show_closes_the_figure_and_hands_html_to_the_notebook(shown):
    figure = curve()
    plots.show(figure, "a curve")
    assert not plt.fignum_exists(figure.number)
    assert "<svg" in shown[0]
    assert 'aria-label="a curve"' in shown[0]


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_show_refuses_a_figure_without_words(alt):
    with pytest.raises(ValueError, match="alt text"):
        plots.show(curve(), alt)


def test_show_says_what_is_not_a_figure():
    with pytest.raises(TypeError, match="list"):
        plots.show([1, 2], "numbers")


def test_pictures_are_embedded_at_their_own_resolution_and_label_maps_without_loss():
    import base64
    import io

    from PIL import Image

    image, mask = scene()
    drawing = svg.from_figure(plots.images([image, mask], labels=SCENES), "a scene")
    found = re.findall(r"data:image/(\w+);base64,([^\"]+)", drawing.svg)
    pictures = [(kind, Image.open(io.BytesIO(base64.b64decode(data)))) for kind, data in found]
    assert [(kind, picture.size) for kind, picture in pictures] == [
        ("webp", (32, 24)),
        ("png", (32, 24)),
    ]
    assert np.array_equal(np.asarray(pictures[1][1].convert("RGB")), plots.paint(mask, SCENES))
    assert drawing.svg.count("image-rendering:pixelated") == 2


def test_ignored_pixels_are_hatched_in_a_way_no_class_is():
    mask = np.full((96, 96), 255)
    painted = plots.paint(mask, SCENES)
    assert {tuple(color) for color in painted.reshape(-1, 3)} == {(70,) * 3, (215,) * 3}
    assert not {(70,) * 3, (215,) * 3} & {*SCENES.colors, *CAMVID.colors}


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_legend_names_the_classes_that_occur_and_ignored_pixels():
    mask = np.array([[0, 2], [255, 2]])
    assert legend_of(plots.images([mask], labels=SCENES)) == ["sky", "road", "ignored"]
    assert legend_of(plots.images([mask[:, 1:]], labels=SCENES)) == ["road"]


def test_overlay_mixes_image_and_colors():
    image, mask = scene()
    mixed = plots.overlay(image, mask, SCENES, alpha=0.25)
    expected = 0.75 * image.numpy().transpose(1, 2, 0) + 0.25 * plots.paint(mask, SCENES) / 255
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    with pytest.raises(ValueError, match="differ in size"):
        plots.overlay(image, mask[1:], SCENES)


def test_one_row_wraps_after_four_pictures_and_shapes_are_checked():
    image, _ = scene()
    figure = plots.images([image] * 6, [f"image {k}" for k in range(6)])
    assert [axes.get_title() for axes in figure.axes] == [f"image {k}" for k in range(6)] + ["", ""]
    with pytest.raises(ValueError, match=r"\(5, 6, 7, 8\)"):
        plots.images([np.zeros((5, 6, 7, 8))])


def test_confusion_prints_the_percent_of_each_row_and_leaves_absent_classes_empty():
    matrix = np.zeros((6, 6), int)
    matrix[0, :2] = 30, 10
    figure = plots.confusion(matrix, SCENES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["75", "25"]
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        plots.confusion(np.eye(3), SCENES)


def test_bars_say_which_class_is_absent():
    iou = torch.tensor([0.5, float("nan"), 0.25, 0, 1, 1])
    texts = [text.get_text() for text in plots.iou_bars({"m": iou}, SCENES).axes[0].texts]
    assert texts == ["0.50", "absent", "0.25", "0.00", "1.00", "1.00"]
    with pytest.raises(ValueError, match="m: expected 6"):
        plots.iou_bars({"m": iou[:3]}, SCENES)


def test_history_draws_the_score_only_where_it_was_measured():
    run = history()
    assert len(plots.history(run).axes) == 2
    run.mean_ious, run.valid_steps = [], []
    assert len(plots.history(run).axes) == 1
