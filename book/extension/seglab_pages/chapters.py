"""The pages as files: which there are, what they say, which headings they have, where they link.

Links between pages are plain Markdown, because Colab and GitHub show the same files. From them
come the back-links of the glossary and of the references.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from myst_parser.mdit_to_docutils.base import default_slugify

ROOT = Path(__file__).resolve().parents[3]

_FENCED = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", re.S | re.M)
_HEADING = re.compile(r"^(#+) +(.+?)[ \t]*$", re.M)
_TO_CHAPTER = re.compile(r"\[([^\]]+)\]\((?:\.\./)?notebooks/(\w+)\.ipynb(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Section:
    """A part of a page under one heading.

    Attributes
    ----------
    page : str
        Path from the root without suffix, ``notebooks/04_fcn``.
    title : str
        Of the page, in plain text.
    heading : str
        Of the section, in plain text; the title for what stands above the first heading.
    slug : str
        Anchor of the heading.
    text : str
        Markdown below the heading, without code.
    """

    page: str
    title: str
    heading: str
    slug: str
    text: str

    @property
    def name(self) -> str:
        """How a link calls it: "Chapter 4, The proof"."""
        number = re.match(r"(\d+)\. ", self.title)
        page = f"Chapter {number[1]}" if number else self.title
        return page if self.heading == self.title else f"{page}, {self.heading}"


@cache
def plan() -> dict[str, str]:
    """Return the names and titles of all chapters of the plan, written or not."""
    return yaml.safe_load((ROOT / "book" / "chapters.yml").read_text())


def exists(chapter: str) -> bool:
    """Whether a chapter of the plan has been written."""
    return (ROOT / "notebooks" / f"{chapter}.ipynb").is_file()


def pages() -> list[str]:
    """Return every page of the table of contents, without suffix, in order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def markdown(page: str) -> str:
    """Return the Markdown of a page; of a notebook, that of its text cells."""
    path = ROOT / f"{page}.md"
    if path.is_file():
        return path.read_text()
    cells = json.loads((ROOT / f"{page}.ipynb").read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def sections(page: str, text: str | None = None) -> list[Section]:
    """Cut a page into its sections.

    Parameters
    ----------
    page : str
        Path from the root without suffix.
    text : str, optional
        Its Markdown, where that is not what the file holds.
    """
    text = _FENCED.sub("", markdown(page) if text is None else text)
    headings = list(_HEADING.finditer(text))
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    title = _plain(headings[0][2])
    found: dict[str, Section] = {}
    for heading, end in zip(headings, ends, strict=True):
        words = _plain(heading[2])
        slug = first = default_slugify(words)
        repeated = 0
        while slug in found:
            repeated += 1
            slug = f"{first}-{repeated}"
        found[slug] = Section(page, title, words, slug, text[heading.end() : end])
    return list(found.values())


def _plain(heading: str) -> str:
    """Return a heading without its markup."""
    return re.sub(r"[*`]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)


def links(section: Section, target: str) -> Iterator[str]:
    """Yield the anchors of a page that a section links to.

    Parameters
    ----------
    section : Section
        Where the links stand.
    target : str
        File name of the page they lead to, ``glossary.md``.
    """
    yield from re.findall(rf"\]\((?:\.\./book/)?{re.escape(target)}#([^)\s]+)\)", section.text)


def link(chapter: str, words: str = "") -> str:
    """Return a Markdown link to a chapter, for a page in ``book/``.

    Parameters
    ----------
    chapter : str
        A name of the plan, ``04_fcn``.
    words : str
        The text of the link; "Chapter 4" if there are none.
    """
    if chapter not in plan():
        raise ValueError(f"no chapter is called {chapter!r}; there are {', '.join(plan())}")
    return f"[{words or f'Chapter {int(chapter[:2])}'}](../notebooks/{chapter}.ipynb)"


def wait_for_chapters(text: str) -> str:
    """Turn links to chapters of the plan that are not written yet into text that says so."""

    def kept(found: re.Match) -> str:
        words, chapter = found[1], found[2]
        waiting = chapter in plan() and not exists(chapter)
        return f"{words} (to come)" if waiting else found[0]

    return _TO_CHAPTER.sub(kept, text)
