"""What pages without code say about the chapters: links, the lecture map, the glossary, results.

These run with the chapters, because it is a new or changed chapter that breaks them.
"""

import re
from itertools import pairwise

import pytest
from seglab_pages import chapters, sheets

PAGES = sorted(path.stem for path in (chapters.ROOT / "book").glob("*.md"))
LECTURE = chapters.markdown("book/lecture")
TRANSCRIPT = chapters.ROOT.parent / "shared" / "lecture.txt"  # not part of this repository

TO_CHAPTER = re.compile(r"\]\(\.\./notebooks/(\w+)\.ipynb(?:#([^)\s]+))?\)")
ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+) \|$", re.M)
FORMULA = re.compile(r"^\*\*(.+?)\*\* \(page.+?\): (.+)\n\n\$\$(.+?)\$\$$", re.M)


def slugs(chapter):
    return [section.slug for section in chapters.sections(f"notebooks/{chapter}")]


def plain(formula):
    """A formula without spacing and size, with one spelling for what has two."""
    formula = re.sub(r"\\(?:[,;:! ]|q?quad|left|right|[bB]igg?[lr]?(?![a-z]))", "", formula)
    formula = re.sub(r"\\(?:mathrm|text|operatorname)\{(\w+)\}", r"\1", formula)
    formula = re.sub(r"\\[lr]?vert(?![a-z])", "|", formula)
    formula = re.sub(r"\\cdot(?![a-z])|\s", "", formula)
    return re.sub(r"\{(\w|\\\w+)\}", r"\1", formula)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_pages_lead_to_headings_that_exist(page):
    for chapter, anchor in TO_CHAPTER.findall(chapters.markdown(f"book/{page}")):
        assert chapter in chapters.plan(), f"book/{page}.md: {chapter} is not in book/chapters.yml"
        if anchor and chapters.exists(chapter):
            assert anchor in slugs(chapter), (
                f"book/{page}.md: {chapter} has no heading #{anchor}, only {slugs(chapter)}"
            )


@pytest.mark.parametrize("page", ["lecture", "glossary"])
def test_lecture_map_and_glossary_name_a_section_of_every_chapter_that_exists(page):
    for chapter, anchor in TO_CHAPTER.findall(chapters.markdown(f"book/{page}")):
        assert anchor or not chapters.exists(chapter), (
            f"book/{page}.md links to {chapter} as a whole; it exists now, so say which section: "
            f"{slugs(chapter)}"
        )


def test_every_page_of_the_lecture_has_a_place():
    numbers = [int(number) for number, _, _ in ROW.findall(LECTURE)]
    assert numbers == list(range(1, 42))
    assert all("](" in place for _, _, place in ROW.findall(LECTURE))


def test_the_map_has_the_lecture_s_pages_in_order():
    if not TRANSCRIPT.is_file():
        pytest.skip("the lecture's transcript is not on this machine")
    titles = re.findall(r"^# (.+)$", TRANSCRIPT.read_text(), re.M)
    expected = [
        f"{title} ({titles[: place + 1].count(title)})" if titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]
    assert [title for _, title, _ in ROW.findall(LECTURE)] == expected


@pytest.mark.parametrize(("name", "place", "formula"), FORMULA.findall(LECTURE))
def test_every_formula_of_the_lecture_stands_in_the_chapter_of_the_map(name, place, formula):
    for chapter, _ in TO_CHAPTER.findall(place):
        if chapters.exists(chapter):
            text = plain(chapters.markdown(f"notebooks/{chapter}"))
            assert plain(formula) in text, f"{name}: {chapter} does not print ${formula}$"


def test_the_map_has_every_formula_of_the_lecture():
    names = [name for name, _, _ in FORMULA.findall(LECTURE)]
    for expected in (
        *("One-hot encoding", "Softmax", "Sigmoid", "Cross entropy", "Weighted cross entropy"),
        *("Balanced cross entropy", "Focal loss", "Dice coefficient", "Intersection over union"),
        *("Dice loss", "Tversky index"),
    ):
        assert expected in names


def test_the_formulas_are_the_lecture_s():
    if not TRANSCRIPT.is_file():
        pytest.skip("the lecture's transcript is not on this machine")
    slides = plain(TRANSCRIPT.read_text())
    for name, _, formula in FORMULA.findall(LECTURE):
        if name not in ("One-hot encoding", "Softmax"):  # words and a table on the slide
            assert plain(formula).replace("_k", "") in slides, name


def test_fact_sheets_print_the_lecture_s_formulas():
    formulas = [plain(formula) for _, _, formula in FORMULA.findall(LECTURE)]
    for name, fact in sheets.facts()["losses"].items():
        assert any(formula in plain(fact["formula"]) for formula in formulas), name


def test_two_spellings_of_a_formula_are_one():
    one = r"\text{TI}(p, \hat{p}) = \frac{p \hat{p}}{|X| + \left( 1 - \beta \right)}"
    two = r"\mathrm{TI}(p,\hat p) = \frac{p\,\hat p}{\lvert X \rvert + \big(1 - \beta\big)}"
    assert plain(one) == plain(two)
    assert plain(r"\frac{a}{b}") != plain(r"\frac{b}{a}")
    assert plain(r"\beta p") != plain(r"p")


def test_terms_are_sorted_and_defined_once():
    terms = re.findall(r"^(\w.*)\n  ", chapters.markdown("book/glossary"), re.M)
    assert all(one.lower() < other.lower() for one, other in pairwise(terms))


def test_recorded_runs_have_the_scores_that_fact_sheets_show():
    for kind in ("models", "losses"):
        for fact in sheets.facts()[kind].values():
            for _, share in sheets.seeds(fact):
                assert 0 <= share <= 1
