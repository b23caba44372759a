"""The built pages in Chromium, with the network cut off."""

import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH, pages not opened")

# What the theme itself says on every page; anything else is ours to mend.
KNOWN = ("invalid theme mode", "strict mode")

# Text that mathematics leaves behind when it was not typeset.
UNRENDERED = r"""
() => {
  const article = document.querySelector("article").cloneNode(true);
  for (const e of article.querySelectorAll("pre, code, script, style, mjx-container")) e.remove();
  return article.textContent.match(/\$\$|\\\(|\\\[|\\begin\{|\\(frac|sum|mathbf|hat)\b/g) || [];
}
"""


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    with ThreadingHTTPServer(("localhost", 0), partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    # Chromium has no sandbox for root.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def visit(address, browser):
    """Open a page once, wait until it is quiet, and keep what went wrong on the way."""
    opened = {}

    def open_page(name):
        if name in opened:
            return opened[name]
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.troubles = []
        page.on("console", lambda m: page.troubles.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("requestfailed", lambda r: page.troubles.append(f"failed: {r.url}"))
        page.on(
            "response",
            lambda r: page.troubles.append(f"{r.status}: {r.url}") if r.status >= 400 else None,
        )
        allowed = (address, "data:", "blob:")
        page.route(
            "**/*",
            lambda route: (
                route.continue_() if route.request.url.startswith(allowed) else route.abort()
            ),
        )
        page.goto(f"{address}/{name}.html", wait_until="networkidle")
        page.evaluate("() => window.MathJax?.startup?.promise")
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


def test_search_finds_a_word_of_this_book(visit, address, browser):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=segmentation", wait_until="networkidle")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results li").count() > 0
    page.close()
