"""The PDF: every page, every link, nothing cut, nothing that only works on a screen."""

import re
from io import BytesIO

import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

from book.tools import pdf
from tests.book.conftest import pages
from tests.book.test_browser import CHROMIUM

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH, no PDF printed")
PAPER = 635  # CSS pixels between the margins of A4

# Whatever must stay on one page gets a mark in its first and in its last line.
MARK = """() => {
  const whole = ".seglab-figure, figure, .cell_input, article img, tr";
  document.querySelectorAll(whole).forEach((thing, k) => {
    for (const [edge, letter] of [["top", "A"], ["bottom", "Z"]]) {
      const mark = document.createElement("span");
      mark.textContent = `${letter}mark${k}q`;
      mark.style = `position:absolute; ${edge}:0; left:0; font-size:4px; line-height:1`;
      const cell = thing.querySelector(":scope > :is(td, th)");
      const box = cell ?? (thing.matches("img") ? thing.parentElement : thing);
      box.style.position = "relative";
      box.append(mark);
    }
  });
}"""

TOO_WIDE = """width => [...document.querySelectorAll("article *")]
  .filter(e => !e.closest("svg") && !e.closest("mjx-assistive-mml"))
  .filter(e => e.getBoundingClientRect().right > width + 1 || e.scrollWidth > width + 1)
  .map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def book(site):
    return pdf.document(site, pdf.parts(), pdf.configuration())


@pytest.fixture(scope="module")
def printed(site, needs_local_scripts, tmp_path_factory):
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    pdf.write(site, target)
    return PdfReader(target)


def text_of(page):
    return re.sub(r"\s+", " ", page.extract_text())


def bookmarks(outline):
    """(title, destination) of the top level, in order."""
    return [entry for entry in outline if not isinstance(entry, list)]


def test_every_page_of_the_book_is_in_the_document(book):
    articles = [article["id"] for article in book.find_all("article")]
    assert articles == [pdf.name(page) for page in pages()]


def test_ids_are_unique_and_every_link_inside_has_a_target(book):
    ids = [tag["id"] for tag in book.find_all(id=True)]
    assert len(set(ids)) == len(ids)
    inside = [a["href"][1:] for a in book.select("a[href^='#']")]
    assert inside
    assert set(inside) <= set(ids)
    for url in (a["href"] for a in book.select("article a[href]")):
        assert re.match(r"#|\w+:", url), url


def test_drawings_refer_to_their_own_parts(book):
    ids = {tag["id"] for tag in book.find_all(id=True)}
    text = str(book)
    used = re.findall(r"url\(#([^)]+)\)", text) + re.findall(r'<use[^>]*href="#([^"]+)"', text)
    assert used
    assert set(used) <= ids


def test_paper_has_no_controls(book):
    assert not book.select("article :is(input, button, form, script, .headerlink)")
    assert not book.select("article details:not([open])")


def test_quizzes_end_with_their_answers(site, book):
    for page in pages():
        quizzes = BeautifulSoup((site / f"{page}.html").read_text(), "html.parser").select(
            ".seglab-quiz"
        )
        printed = book.find("article", id=pdf.name(page)).select(".quiz")
        assert len(printed) == len(quizzes)
        for quiz, paper in zip(quizzes, printed, strict=True):
            for question in (legend.get_text() for legend in quiz.find_all("legend")):
                assert question in paper.get_text()
            right = [p.get_text(strip=True) for p in quiz.select("p.right")]
            answers = [li.get_text(strip=True) for li in paper.find_all("li")]
            assert len(answers) == len(right)
            assert all(a.endswith(r) for a, r in zip(answers, right, strict=True))
            for answer in (label.get_text() for label in quiz.select("div > input + label")):
                assert answer in paper.get_text()


def test_sliders_show_several_pictures(site, book):
    for page in pages():
        soup = BeautifulSoup((site / f"{page}.html").read_text(), "html.parser")
        sliders = soup.find_all("script", type=pdf.VIEW)
        printed = book.find("article", id=pdf.name(page)).select(".frames")
        assert len(printed) == len(sliders)
        for frames in printed:
            shown = [str(figure.find(["img", "svg"])) for figure in frames.find_all("figure")]
            assert len(set(shown)) == len(shown) >= 2
            captions = [caption.get_text() for caption in frames.find_all("figcaption")]
            assert len(set(captions)) == len(captions)


@needs_chromium
def test_bookmarks_name_every_page_and_lead_to_it(printed, book):
    titles = [article.h1.get_text(strip=True) for article in book.find_all("article")]
    entries = bookmarks(printed.outline)
    assert [entry.title for entry in entries] == titles
    for entry in entries:
        page = printed.pages[printed.get_destination_page_number(entry)]
        assert entry.title.replace("’", "'") in text_of(page).replace("’", "'")


@needs_chromium
def test_contents_give_the_page_where_a_chapter_begins(printed):
    contents = text_of(printed.pages[1])
    for entry in bookmarks(printed.outline):
        number = printed.get_destination_page_number(entry) + 1
        assert f"{entry.title} {number}" in contents


@needs_chromium
def test_links_of_the_pdf_resolve(printed):
    targets = set(printed.named_destinations)
    inside = 0
    for page in printed.pages:
        for annotation in page.get("/Annots", ()):
            link = annotation.get_object()
            if "/Dest" in link:
                assert link["/Dest"] in targets
                inside += 1
            else:
                assert link["/A"]["/URI"].startswith("https://"), link["/A"]
    assert inside >= len(pages())


@needs_chromium
def test_text_can_be_selected_under_running_heads_with_page_numbers(printed, book):
    assert pdf.configuration()["title"] in text_of(printed.pages[0])
    titles = [article.h1.get_text(strip=True) for article in book.find_all("article")]
    for number, page in enumerate(printed.pages[2:], 3):
        head, count, *_ = page.extract_text().split("\n")
        assert head in titles
        assert count == str(number)


@needs_chromium
@pytest.mark.usefixtures("needs_local_scripts")
def test_nothing_is_cut(site, book):
    with pdf.opened(site, str(book)) as tab:
        tab.emulate_media(media="print")
        tab.set_viewport_size({"width": PAPER, "height": 900})
        assert tab.evaluate(TOO_WIDE, PAPER) == []
        assert tab.locator("mjx-merror").count() == 0
        tab.evaluate(MARK)
        paper = PdfReader(BytesIO(pdf.on_paper(tab)))
    where = {}
    for number, page in enumerate(paper.pages, 1):
        for edge, thing in re.findall(r"([AZ])mark(\d+)q", page.extract_text()):
            where.setdefault(int(thing), {})[edge] = number
    assert len(where) > 10
    assert {thing: edges for thing, edges in where.items() if len(set(edges.values())) > 1} == {}
