"""Sliders and quizzes: linked in the page, small, named, the same for the same input."""

import html.parser
import re
import shutil
import types

import ipywidgets
import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from seglab import diagrams, interactive
from seglab.interactive import Choice, Number


def plot(power):
    figure, axes = plt.subplots(figsize=(5, 3))
    x = np.linspace(0, 1, 200)
    axes.plot(x, x**power)
    return figure


def blocks(seed=0):
    return np.random.default_rng(seed).random((48, 64, 3))


def links_of(box):
    """Every jslink between a widget inside ``box`` and a stack inside ``box``."""
    inside = {widget.model_id for widget in walk(box)}
    return [
        widget
        for widget in ipywidgets.widgets.widget._instances.values()
        if isinstance(widget, ipywidgets.widgets.widget_link.Link)
        and widget.source[0].model_id in inside
        and widget.target[0].model_id in inside
    ]


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def pages(box):
    return [widget.value for widget in walk(box) if isinstance(widget, ipywidgets.HTML)]


def test_a_slider_is_linked_in_the_page_to_one_frame_for_each_value():
    box = interactive.slider([plot(k) for k in (1, 2, 3)], "γ", [1, 2, 3], alt="power {}")
    (control, stack) = box.children
    assert [text for text, _ in control.options] == ["1", "2", "3"]
    assert len(stack.children) == 3
    assert stack.selected_index == 0
    (link,) = links_of(box)
    assert link.source == (control, "index")
    assert link.target == (stack, "selected_index")
    assert [re.search('aria-label="(power.*?)"', page)[1] for page in pages(box)] == [
        "power 1",
        "power 2",
        "power 3",
    ]
    assert not plt.get_fignums()


def test_drawings_are_frames_too_and_take_the_alt_text_of_the_slider():
    drawings = [diagrams.convolution(7, 3, dilation=rate) for rate in (1, 2)]
    box = interactive.slider(drawings, "rate", [1, 2], alt="dilation {}")
    assert [
        page.count(f"dilation {rate}") for rate, page in zip((1, 2), pages(box), strict=True)
    ] == [2, 2]
    ids = re.findall(r' id="([^"]+)"', "".join(pages(box)))
    assert len(ids) == len(set(ids)) == 2


def test_two_sliders_reach_every_frame():
    frames = [[blocks(3 * i + j) for j in range(3)] for i in range(2)]
    box = interactive.slider(frames, ("a", "b"), [[0.5, 1.0], "xyz"], alt="{0} and {1}")
    first, second, stack = box.children
    assert first.description == "a"
    assert second.description == "b"
    assert [re.search('alt="(.*?)"', page)[1] for page in pages(box)] == [
        f"{one} and {two}" for one in ("0.5", "1") for two in "xyz"
    ]
    targets = {(link.source[0].description, link.target[0].model_id) for link in links_of(box)}
    assert targets == {("a", stack.model_id), *(("b", row.model_id) for row in stack.children)}


def test_a_play_button_moves_the_slider():
    box = interactive.slider([blocks(k) for k in range(4)], "step", range(4), alt="{}", play=True)
    (button,) = (widget for widget in walk(box) if isinstance(widget, ipywidgets.Play))
    assert button.max == 3
    assert (button, "value") in [link.source for link in links_of(box)]


def test_with_the_widgets_of_colab_the_kernel_turns_the_pages(monkeypatch):
    monkeypatch.setattr(interactive, "_Stack", interactive._KernelStack)
    monkeypatch.setattr(interactive, "_join", ipywidgets.link)
    frames = [[blocks(3 * i + j) for j in range(3)] for i in range(2)]
    alts = [[f"{i} {j}" for j in range(3)] for i in range(2)]
    box = interactive.slider(frames, ("a", "b"), [[0, 1], [0, 1, 2]], alt=alts)
    first, second, _ = box.children
    for i, j in ((0, 0), (0, 2), (1, 2), (1, 1), (0, 1)):
        first.index, second.index = i, j
        (page,) = pages(box)
        assert f'alt="{i} {j}"' in page


def test_only_core_widgets_are_used():
    box = interactive.slider([blocks()] * 2, "step", [0, 1], alt="{}", play=True)
    modules = {widget._model_module for widget in walk(box)}
    assert modules == {"@jupyter-widgets/controls"}


def test_twenty_frames_cost_less_than_the_budget_and_a_heavy_slider_warns():
    values = list(range(20))
    for frames in ([plot(k) for k in values], [blocks(k) for k in values]):
        box = interactive.slider(frames, "k", values, alt="frame {}")
        assert sum(map(len, pages(box))) < interactive.BUDGET
    noise = np.random.default_rng(0).random((4, 512, 512, 3))
    with pytest.warns(UserWarning, match="kB"):
        interactive.slider(noise, "k", range(4), alt="noise {}")


def test_arrays_keep_their_resolution_and_flat_colors_their_values():
    import base64
    import io

    from PIL import Image

    labels = np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((8, 8), np.uint8))
    (page, *_) = pages(interactive.slider([labels, labels], "k", [0, 1], alt="{}"))
    data = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("L")), labels)
    assert "pixelated" in page


@pytest.mark.parametrize(
    ("frames", "values", "alt", "message"),
    [
        (2, [1, 2, 3], "{}", "2 frames, 3 values"),
        (2, [1, 2], ["one"], "1 alt texts"),
        (2, [1, 2], ["one", " "], "alt text"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(frames, values, alt, message):
    with pytest.raises(ValueError, match=message):
        interactive.slider([blocks()] * frames, "k", values, alt=alt)


QUESTIONS = [
    Choice("Which stride has `FCN-8s` & why?", {"8": "pool3 < pool4.", "32": "No skip."}),
    Number("How many pixels?", 1024, "32 · 32.", mistakes={32: "One side."}, hint="An area."),
]


class Page(html.parser.HTMLParser):
    """Collects tags with their attributes, and the text of labels."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.labels, self.open = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "label":
            self.open = dict(attributes)["for"]

    def handle_endtag(self, tag):
        if tag == "label":
            self.open = None

    def handle_data(self, data):
        if self.open:
            self.labels[self.open] = self.labels.get(self.open, "") + data

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_every_control_of_a_quiz_has_a_name_and_every_question_a_legend():
    page = Page(interactive.quiz(QUESTIONS).data)
    inputs = page.of("input")
    assert [page.labels[control["id"]].strip() for control in inputs] == ["8", "32", "Your number:"]
    assert len(page.of("legend")) == len(page.of("fieldset")) == 2
    assert len({control["id"] for control in inputs}) == 3
    assert sum("role" in tag and tag["role"] == "status" for _, tag in page.tags) == 3


def test_every_answer_of_a_quiz_is_explained():
    data = interactive.quiz(QUESTIONS).data
    texts = re.findall(r'<p class="(\w+)" [^>]*><strong>.*?</strong> (.*?)</p>', data)
    assert texts == [
        ("right", "pool3 &lt; pool4."),
        ("wrong", "No skip."),
        ("right", "32 · 32."),
        ("wrong", "One side."),
        ("wrong", "An area."),
    ]
    assert "<code>FCN-8s</code> &amp; why?" in data


def test_a_quiz_needs_no_network_and_is_the_same_every_time():
    data = interactive.quiz(QUESTIONS).data
    assert "http" not in data
    assert "<script" not in data
    assert data == interactive.quiz(QUESTIONS).data
    assert len(data) < 8_000


def test_questions_without_explanation_or_answer_are_refused():
    with pytest.raises(ValueError, match="explanation"):
        Choice("?", {"a": "because", "b": ""})
    with pytest.raises(ValueError, match="2 answers"):
        Choice("?", {"a": "because", "b": "no"}, correct=2)
    with pytest.raises(ValueError, match="explanation"):
        Number("?", 1, "")
    with pytest.raises(TypeError, match="dict"):
        interactive.quiz([{"question": "?"}])


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_quiz_answers_by_keyboard_and_by_mouse_without_a_kernel():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.set_content(f"<!doctype html><meta charset=utf-8>{interactive.quiz(QUESTIONS).data}")
        seen = types.SimpleNamespace(all=page.locator("p:visible").all_inner_texts)
        assert seen.all() == []
        page.get_by_label("32").check()
        assert seen.all() == ["Not quite. No skip."]
        page.get_by_label("8").focus()
        page.keyboard.press("Space")
        assert seen.all() == ["Right. pool3 < pool4."]
        for typed, said in [("32", "One side."), ("1,024", "32 · 32."), ("x", "An area.")]:
            page.get_by_label("Your number").fill(typed)
            page.keyboard.press("Enter")
            assert seen.all()[1].endswith(said)
        share = Number("Which share?", 0.75, "Three of four.", mistakes={0.25: "The other share."})
        percent = Number("How many percent?", 40, "Two of five.")
        page.set_content(
            f"<!doctype html><meta charset=utf-8>{interactive.quiz([share, percent]).data}"
        )
        for field, typed, said in [
            (0, "3/4", "Three of four."),
            (0, "75 %", "Three of four."),
            (0, "0,75", "Three of four."),
            (0, "-1/-4", "The other share."),
            (0, "3/0", "Not this number: try again."),
            (1, "40%", "Two of five."),
        ]:
            box = page.get_by_label("Your number").nth(field)
            box.fill(typed)
            page.keyboard.press("Enter")
            assert page.locator("form").nth(field).locator("p:visible").inner_text().endswith(said)
            right = said in ("Three of four.", "Two of five.")
            assert box.get_attribute("aria-invalid") == ("false" if right else "true")
        browser.close()
