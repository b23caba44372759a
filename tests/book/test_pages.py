"""The built pages, read as files: nothing missing, nothing broken, nothing from elsewhere."""

import json
import re
from functools import cache
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup

from seglab import interactive
from tests.book.conftest import ROOT, pages

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
REPOSITORY = CONFIG["repository"]["url"]
BRANCH = CONFIG["repository"]["branch"]


@cache
def soup(path):
    return BeautifulSoup(path.read_text(), "html.parser")


@cache
def anchors(path):
    return {tag["id"] for tag in soup(path).find_all(id=True)}


def open_page(site, page):
    path = site / f"{page}.html"
    assert path.is_file(), f"_toc.yml names {page}, but the book has no such page"
    return soup(path)


def test_every_chapter_is_in_the_table_of_contents():
    chapters = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert chapters == {page for page in pages() if page.startswith("notebooks/")}


def test_the_root_leads_to_the_front_page(site):
    assert pages()[0] in (site / "index.html").read_text()


def test_page_exists_with_one_title(site, page):
    titles = open_page(site, page).find_all("h1")
    assert len(titles) == 1
    assert titles[0].get_text(strip=True)


def test_page_has_no_failed_cell(site, page):
    assert not open_page(site, page).select(".output.traceback")
    assert not (site / "reports" / f"{page}.err.log").exists()


def test_every_figure_says_what_to_see(site, page):
    article = open_page(site, page).find("article")
    for picture in article.select("img, [role=img]"):
        text = picture.get("alt") or picture.get("aria-label") or ""
        assert picture.get("aria-hidden") == "true" or len(text) > 10, str(picture)[:300]


def test_code_of_a_quiz_is_folded_away(site, page):
    for fieldset in open_page(site, page).select(".seglab-quiz"):
        cell = fieldset.find_parent(class_="cell")
        assert cell.select_one("details.hide .cell_input")


def test_links_and_anchors_lead_somewhere(site, page):
    here = site / f"{page}.html"
    broken = []
    for tag in open_page(site, page).select("a[href], img[src], script[src], link[href]"):
        target = tag.get("href") or tag.get("src")
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        there = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        found = there.is_file() and (
            not parts.fragment
            or there.suffix != ".html"
            or unquote(parts.fragment) in anchors(there)
        )
        if not found:
            broken.append(target)
    assert not broken


@pytest.mark.usefixtures("needs_local_scripts")
def test_page_loads_nothing_from_the_web(site, page):
    loading = "script[src], img[src], iframe[src], source[src], video[src], link[rel=stylesheet]"
    tags = open_page(site, page).select(loading)
    targets = [tag.get("src") or tag.get("href") for tag in tags]
    assert not [t for t in targets if urlsplit(t).scheme not in ("", "data")]


def test_only_pages_with_sliders_load_code_for_them(site, page):
    content = open_page(site, page)
    loads = any("sliders.js" in script["src"] for script in content("script", src=True))
    assert loads == bool(content("script", type="application/vnd.jupyter.widget-view+json"))


def test_a_slider_stays_under_its_budget(site, chapter):
    content = open_page(site, chapter)
    for view in content("script", type="application/vnd.jupyter.widget-view+json"):
        state = content.find("script", type="application/vnd.jupyter.widget-state+json")
        models = json.loads(state.string)["state"]
        assert cost(json.loads(view.string)["model_id"], models) < interactive.BUDGET


def cost(model, models):
    """Bytes of a widget and of all that it shows."""
    state = models[model]["state"]
    children = re.findall(r"IPY_MODEL_(\w+)", json.dumps(state.get("children", [])))
    return len(json.dumps(state)) + sum(cost(child, models) for child in children)


def test_page_says_what_it_is_about(site, page):
    description = open_page(site, page).find("meta", attrs={"name": "description"})
    assert 20 < len(description["content"]) <= 160


def test_page_shows_its_text_before_any_script_runs(site, page):
    head = open_page(site, page).head
    assert [link["href"] for link in head("link", rel="stylesheet")] == ["../_static/seglab.css"]
    assert all(script.has_attr("defer") for script in head("script", src=True))
    assert sum(len(script.get_text()) for script in head("script")) < 2000


def test_colab_opens_this_very_chapter(site, chapter):
    owner = urlsplit(REPOSITORY).path.strip("/")
    expected = f"https://colab.research.google.com/github/{owner}/blob/{BRANCH}/{chapter}.ipynb"
    links = [a["href"] for a in open_page(site, chapter).select("a[href*=colab]")]
    assert expected in links
    assert set(links) == {expected}


def test_pages_without_code_do_not_offer_colab(site, page):
    if page.startswith("book/"):
        links = open_page(site, page).select("a[href*='colab.research']")
        assert all(link.find_parent("article") for link in links)


def test_readers_can_suggest_a_change(site, page):
    links = [a["href"] for a in open_page(site, page).select("a[href]")]
    suffix = "ipynb" if page.startswith("notebooks/") else "md"
    assert f"{REPOSITORY}/edit/{BRANCH}/{page}.{suffix}" in links
