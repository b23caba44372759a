"""The built pages in Chromium, with the network cut off."""

import os
import shutil
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from ipywidgets import embed
from playwright.sync_api import sync_playwright

from book.tools import axe, lighthouse
from seglab import interactive

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH, pages not opened")

# What the sliders' library says about its own schema; anything else is ours to mend.
KNOWN = ("strict mode",)

# What a page may transfer, gzipped, before a reader has moved a thing; with sliders, all of them.
PAGE_BYTES = 1_500_000
CHAPTER_BYTES = 3_000_000

# Text that mathematics leaves behind when it was not typeset.
UNRENDERED = r"""
() => {
  const article = document.querySelector("article").cloneNode(true);
  for (const e of article.querySelectorAll("pre, code, script, style, mjx-container")) e.remove();
  return article.textContent.match(/\$\$|\\\(|\\\[|\\begin\{|\\(frac|sum|mathbf|hat)\b/g) || [];
}
"""


@pytest.fixture(scope="module")
def address(site):
    with lighthouse.serve(site) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    # Chromium has no sandbox for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


def listen(page):
    """Keep what goes wrong on a page, and what it loads."""
    page.troubles, page.loaded = [], set()
    page.on("console", lambda m: page.troubles.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("requestfailed", lambda r: page.troubles.append(f"failed: {r.url}"))
    page.on("requestfinished", lambda r: page.loaded.add(r.url))
    page.on(
        "response",
        lambda r: page.troubles.append(f"{r.status}: {r.url}") if r.status >= 400 else None,
    )


def draw_sliders(page):
    """Scroll to where sliders belong, and wait until their code has come and drawn them."""
    views = page.locator('article script[type="application/vnd.jupyter.widget-view+json"]').count()
    if views:
        page.locator("article .cell_output:has(> script)").first.scroll_into_view_if_needed()
        drawn = "n => document.querySelectorAll('.widget-subarea .jupyter-widgets').length >= n"
        page.wait_for_function(drawn, arg=views)
        page.wait_for_load_state("networkidle")


@pytest.fixture(scope="module")
def visit(address, browser, self_contained):
    """Open a page once, wait until it is quiet, and keep what went wrong on the way."""
    opened = {}

    def open_page(name):
        if name in opened:
            return opened[name]
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        listen(page)
        allowed = (address, "data:", "blob:")
        page.route(
            "**/*",
            lambda route: (
                route.continue_() if route.request.url.startswith(allowed) else route.abort()
            ),
        )
        page.goto(f"{address}/{name}.html", wait_until="networkidle")
        if self_contained:
            draw_sliders(page)
        opened[name] = page
        return page

    return open_page


def test_page_opens_without_an_error(visit, page, self_contained):
    # Cut off from the web, links to scripts must fail where the book could not carry them.
    known = KNOWN if self_contained else (*KNOWN, "https://cdn.jsdelivr.net/", "ERR_FAILED")
    troubles = [t for t in visit(page).troubles if not any(part in t for part in known)]
    assert not troubles


@pytest.mark.usefixtures("needs_local_scripts")
def test_mathematics_is_typeset(visit, page):
    opened = visit(page)
    assert opened.evaluate(UNRENDERED) == []
    assert opened.locator("mjx-merror").count() == 0
    formulas = opened.locator("article .math").count()
    assert opened.locator("article mjx-container").count() >= formulas


@pytest.mark.usefixtures("needs_local_scripts")
def test_sliders_and_figures_are_drawn(visit, page):
    opened = visit(page)
    views = opened.locator('script[type="application/vnd.jupyter.widget-view+json"]').count()
    assert opened.locator("article .widget-subarea").count() == views
    broken = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert opened.evaluate(broken) == []


@pytest.mark.usefixtures("needs_local_scripts")
def test_sliders_show_another_picture(visit, chapter):
    opened = visit(chapter)
    for slider in opened.locator("article .seglab-slider").all():
        handle = slider.locator(".noUi-handle").first
        before = shown(slider)
        handle.focus()
        opened.keyboard.press("ArrowRight")
        opened.wait_for_timeout(200)
        assert shown(slider) != before, "the keyboard moved nothing"
        track = slider.locator(".noUi-base").first.bounding_box()
        opened.mouse.click(track["x"] + 2, track["y"] + track["height"] / 2)
        opened.wait_for_timeout(200)
        assert shown(slider) == before, "a click on the first value does not bring it back"


def shown(slider):
    """Whatever picture of a slider is visible now."""
    visible = "e => [...e.querySelectorAll('img, svg')].filter(i => i.checkVisibility()"
    return slider.evaluate(f"{visible} && i.closest('.widget-html')).map(i => i.outerHTML).join()")


def test_quizzes_tell_wrong_from_right(visit, chapter):
    quizzes = visit(chapter).locator("article .seglab-quiz")
    for question in quizzes.locator("fieldset").all():
        if question.locator("form").count():
            value = question.locator("p.right").get_attribute("data-value")
            for typed, verdict in ((value, "right"), (str(float(value) + 12345), "wrong")):
                question.locator("input[type=text]").fill(typed)
                question.get_by_role("button").click()
                assert question.locator(f"p.{verdict}:visible").count() == 1
                assert question.locator("p:visible").count() == 1
        else:
            for answer in question.locator("input[type=radio]").all():
                answer.check()
                assert question.locator("p:visible").count() == 1
            question.locator("div:has(p.right) input").check()
            assert question.locator("p.right:visible").count() == 1


def test_nothing_is_wider_than_the_screen(visit, page):
    opened = visit(page)
    for width in (1280, 390):
        opened.set_viewport_size({"width": width, "height": 900})
        assert opened.evaluate("() => document.documentElement.scrollWidth") <= width
    opened.set_viewport_size({"width": 1280, "height": 900})


def test_a_wide_formula_can_be_scrolled_to_its_beginning(visit, page):
    opened = visit(page)
    opened.set_viewport_size({"width": 390, "height": 900})
    lost = """() => [...document.querySelectorAll('div.math')].filter(m =>
        [...m.children].some(c => c.getBoundingClientRect().x < m.getBoundingClientRect().x - 1)
    ).map(m => m.textContent.trim())"""
    assert opened.evaluate(lost) == []
    opened.set_viewport_size({"width": 1280, "height": 900})


def test_search_finds_a_word_of_this_book(address, browser):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=segmentation", wait_until="networkidle")
    page.wait_for_selector("#search-results li p.context")
    hit = page.locator("#search-results li a").first
    hit.click()
    page.wait_for_load_state()
    assert "segmentation" in page.locator("article").inner_text().lower()
    page.close()


def test_every_page_has_a_way_to_search(browser, page, address):
    opened = browser.new_page()
    opened.goto(f"{address}/{page}.html")
    opened.keyboard.press("Control+k")
    opened.keyboard.type("softmax")
    opened.keyboard.press("Enter")
    opened.wait_for_selector("#search-results li")
    opened.close()


@pytest.mark.usefixtures("needs_local_scripts")
def test_axe_finds_no_obstacle_in_light_and_dark_wide_and_narrow(visit, page):
    assert axe.obstacles(visit(page)) == []


@pytest.mark.usefixtures("needs_local_scripts")
def test_axe_finds_no_obstacle_among_search_results(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=segmentation", wait_until="networkidle")
    page.wait_for_selector("#search-results li")
    assert axe.obstacles(page) == []
    page.close()


CONTROLS = (
    ".seglab-slider .noUi-handle, .seglab-slider button:not([disabled]),"
    ".seglab-quiz input[type=text], .seglab-quiz button, .seglab-quiz fieldset:has([type=radio])"
)

# Notes on what has the focus how wide its ring is.
MARK = """() => {
  const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
  document.activeElement.dataset.ring = outlineStyle === "none" ? 0 : parseFloat(outlineWidth);
}"""


@pytest.mark.usefixtures("needs_local_scripts")
def test_the_tab_key_reaches_every_slider_and_quiz_with_a_ring(visit, chapter):
    opened = visit(chapter)
    opened.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    opened.locator("body").click(position={"x": 640, "y": 2})
    left = (
        f"() => [...document.querySelectorAll('{CONTROLS}')].filter(e => e.checkVisibility() &&"
        " !(e.dataset.ring >= 2 || e.querySelector('[data-ring]')?.dataset.ring >= 2))"
        ".map(e => e.outerHTML.slice(0, 200))"
    )
    for _ in range(40):
        for _ in range(25):
            opened.keyboard.press("Tab")
            opened.evaluate(MARK)
        if not opened.evaluate(left):
            break
    assert opened.evaluate(left) == []


@pytest.mark.usefixtures("needs_local_scripts")
def test_arrow_keys_choose_every_answer_of_a_quiz(visit, chapter):
    opened = visit(chapter)
    for question in opened.locator(".seglab-quiz fieldset:has([type=radio])").all():
        answers = question.locator("input[type=radio]")
        answers.first.focus()
        for position in range(answers.count()):
            opened.keyboard.press("ArrowDown")
            after = answers.nth((position + 1) % answers.count())
            assert after.is_checked()
            assert question.locator("p:visible").count() == 1


def test_what_a_page_transfers_stays_small(visit, page, site, address, self_contained):
    opened = visit(page)
    sliders = opened.locator("article .seglab-slider").count()
    paths = [urlsplit(url).path for url in opened.loaded if url.startswith(address)]
    files = {site / unquote(path).lstrip("/") for path in paths}
    assert len(files) > 5
    total = sum(len(lighthouse.transferred(file)) for file in files)
    assert total < (CHAPTER_BYTES if sliders else PAGE_BYTES), f"{page}: {total:,} bytes"


@pytest.mark.usefixtures("needs_local_scripts")
def test_a_chapter_opens_from_a_memory_stick(browser, site, chapter):
    context = browser.new_context(offline=True)
    page = context.new_page()
    listen(page)
    page.goto((site / f"{chapter}.html").resolve().as_uri(), wait_until="load")
    draw_sliders(page)
    assert not [t for t in page.troubles if not any(known in t for known in KNOWN)]
    # fonts of formulas and icons
    page.evaluate("() => document.fonts.ready")
    families = page.evaluate(
        "() => [...document.fonts].filter(f => f.status === 'loaded').map(f => f.family)"
    )
    assert any("Font Awesome" in family for family in families)
    assert any("MJX" in family for family in families) == bool(page.locator("mjx-c").count())
    for slider in page.locator("article .seglab-slider").all():
        before = shown(slider)
        slider.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(200)
        assert shown(slider) != before
    for question in page.locator(".seglab-quiz fieldset:has([type=radio])").all():
        question.locator("div:has(p.right) input").check()
        assert question.locator("p.right:visible").count() == 1
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.loaded)
    context.close()


@pytest.fixture
def two_sliders(browser, site, tmp_path):
    """A page with what no chapter may have yet: two sliders over one picture, and a play button."""
    frames = [[np.full((32, 32), 0.1 * (3 * i + j)) for j in range(3)] for i in range(3)]
    box = interactive.slider(
        frames, ("row", "column"), ([1, 2, 3], [4, 5, 6]), alt="gray of {0} and {1}", play=True
    )
    page_file = tmp_path / "two.html"
    embed.embed_minimal_html(page_file, [box], title="two", requirejs=False)
    static = (site / "_static").resolve().as_uri()
    text = page_file.read_text()
    start = text.index("<script")
    end = text.index("</script>", start)
    ours = f'<script defer src="{static}/sliders.js" data-embed="widgets/embed.js">'
    body = text[:start] + ours + text[end:]
    page_file.write_text(body.replace("<body>", "<body><article>").replace("</body>", "</article>"))
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.wait_for_selector(".seglab-slider img")
    yield page
    page.close()


@pytest.mark.usefixtures("needs_local_scripts")
def test_two_sliders_move_one_picture(two_sliders):
    slider = two_sliders.locator(".seglab-slider")
    alt = "() => [...document.images].filter(i => i.checkVisibility()).map(i => i.alt)"
    assert two_sliders.evaluate(alt) == ["gray of 1 and 4"]
    for handle, expected in ((0, "gray of 2 and 4"), (1, "gray of 2 and 5")):
        slider.locator(".noUi-handle").nth(handle).focus()
        two_sliders.keyboard.press("ArrowRight")
        two_sliders.wait_for_timeout(200)
        assert two_sliders.evaluate(alt) == [expected]
    names = [h.get_attribute("aria-label") for h in slider.locator(".noUi-handle").all()]
    assert names == ["row", "column"]


@pytest.mark.usefixtures("needs_local_scripts")
def test_the_play_button_plays_and_pauses(two_sliders):
    alt = "() => [...document.images].filter(i => i.checkVisibility())[0].alt"
    play = two_sliders.get_by_role("button", name="play or pause")
    play.focus()
    two_sliders.keyboard.press("Enter")
    two_sliders.wait_for_function(f"({alt})() === 'gray of 2 and 4'")
    two_sliders.keyboard.press("Enter")
    two_sliders.wait_for_timeout(900)
    paused = two_sliders.evaluate(alt)
    two_sliders.wait_for_timeout(900)
    assert two_sliders.evaluate(alt) == paused
