"""Print the built book into one PDF: ``make pdf``.

The articles of all pages become one HTML document, in the order of ``_toc.yml``, which Chromium
prints: ids get the name of their page, links between pages become links inside the document,
sliders show three of their frames and quizzes end with their answers. The contents get their page
numbers from a first printing.
"""

import html
import json
import logging
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Error, Page, Route
from pypdf import PdfReader, PdfWriter
from pypdf.generic import NameObject, TextStringObject

from book.tools.browser import chromium

ROOT = Path(__file__).resolve().parents[2]
STYLE = Path(__file__).with_suffix(".css")
ADDRESS = "http://book.invalid"  # answered from the disk
# Which positions of a slider are printed, when it has one, two or more.
FRAMES = {1: (0.0,), 2: (0.0, 1.0), 3: (0.0, 0.5, 1.0)}
REFERENCES = ("for", "aria-labelledby", "aria-describedby", "aria-controls", "aria-details")
STATE, VIEW = (f"application/vnd.jupyter.widget-{kind}+json" for kind in ("state", "view"))

# The build typesets; without npm the browser does, and every chapter numbers its own equations.
TYPESET = """async () => {
  if (!document.querySelector("mjx-container")) {
    if (!window.MathJax?.startup?.promise) return false;
    await MathJax.startup.promise;
    for (const article of document.querySelectorAll("article")) {
      MathJax.texReset();
      MathJax.typesetClear();
      await MathJax.typesetPromise([article]);
    }
  }
  await document.fonts.ready;
  return true;
}"""

NUMBER = """numbers => {
  for (const entry of document.querySelectorAll(".table-of-contents a"))
    entry.lastElementChild.textContent = numbers[entry.hash.slice(1)];
}"""

HEADINGS = """() =>
  [...document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")].map(h => h.innerText.trim())
"""


def parts(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the pages of every part as ``_toc.yml`` names them; the front page is in part ""."""
    toc = yaml.safe_load((root / "_toc.yml").read_text())
    listed = {part["caption"]: [c["file"] for c in part["chapters"]] for part in toc["parts"]}
    return {"": [toc["root"]], **listed}


def configuration(root: Path = ROOT) -> dict:
    """Return ``_config.yml``."""
    return yaml.safe_load((root / "_config.yml").read_text())


def name(page: str, target: str = "") -> str:
    """Return the id that a page, or an id on it, has in the document."""
    return page.replace("/", "-") + (f"--{target}" if target else "")


def article(site: Path, page: str, pages: set[str]) -> Tag:
    """Return what a page says, ready to stand in the document beside all others."""
    path = site / f"{page}.html"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `make book` builds it")
    soup = BeautifulSoup(path.read_text(), "html.parser")
    content = soup.find("article")
    state = soup.find("script", type=STATE)
    for view in content.find_all("script", type=VIEW):
        models = json.loads(state.string)["state"]
        view.replace_with(frames(models, json.loads(view.string)["model_id"]))
    for quiz in content.select(".seglab-quiz"):
        quiz.replace_with(printed(quiz))
    for useless in content.select("script, .headerlink, .toctree-wrapper, .screen-only"):
        useless.decompose()
    for folded in content.find_all("details"):
        if "hide" in folded.get("class", ()):  # code that is beside the point
            folded.decompose()
        else:
            folded["open"] = ""
    relink(content, page, pages)
    content["id"] = name(page)
    return content


def frames(models: dict, root: str) -> Tag:
    """Return a slider as it is on paper: some of its frames, each with the slider's value."""
    controls, stack = [], None
    for model in walk(models, root):
        if model["_model_name"] == "SelectionSliderModel":
            controls.append((model["description"], model["_options_labels"]))
        elif model["_model_name"] == "StackModel" and stack is None:
            stack = model
    figures = []
    for share in FRAMES[min(3, max(len(labels) for _, labels in controls))]:
        frame = stack
        while "children" in frame:
            children = frame["children"]
            frame = follow(models, children[round(share * (len(children) - 1))])
        caption = ", ".join(f"{text} {v[round(share * (len(v) - 1))]}" for text, v in controls)
        figures.append(f"<figure>{frame['value']}<figcaption>{html.escape(caption)}</figcaption>")
    drawing = BeautifulSoup(figures[0], "html.parser").svg
    wide = drawing is not None and flat(drawing["viewbox"])
    kind = "frames wide" if wide else "frames"
    return fragment(f'<div class="{kind}">{"</figure>".join(figures)}</figure></div>')


def flat(viewbox: str) -> bool:
    """Whether a drawing is so wide that three of them would not fit beside each other."""
    _, _, width, height = map(float, viewbox.split())
    return width > 1.5 * height


def follow(models: dict, reference: str) -> dict:
    """Return the state of a widget that another one names."""
    return models[reference.removeprefix("IPY_MODEL_")]["state"]


def walk(models: dict, root: str) -> Iterator[dict]:
    """Yield the states of a widget and of everything in it, in the order of the page."""
    state = follow(models, root)
    yield state
    for child in state.get("children", ()):
        yield from walk(models, child)


def printed(quiz: Tag) -> Tag:
    """Return a quiz as it is on paper: questions first, then the answers."""
    questions, answers = [], []
    for number, fieldset in enumerate(quiz.find_all("fieldset"), 1):
        question = fieldset.legend.decode_contents()
        right = fieldset.select_one("p.right").decode_contents()
        options = fieldset.find_all("label") if not fieldset.form else []
        letters = [chr(ord("a") + k) for k in range(len(options))]
        for letter, option in zip(letters, options, strict=True):
            question += f"<br><b>{letter}</b>&ensp;{option.decode_contents()}"
            why = option.find_next("p")
            if "right" in why["class"]:
                right = f"<b>{letter}</b>&ensp;{why.decode_contents()}"
        questions.append(f"<p>{question}</p>")
        answers.append(f"<li value={number}>{right}</li>")
    return fragment(
        f'<div class="quiz">{"".join(questions)}<p class="answers">Answers</p>'
        f"<ol>{''.join(answers)}</ol></div>"
    )


def fragment(text: str) -> Tag:
    """Return the one element that a piece of HTML describes."""
    return BeautifulSoup(text, "html.parser").find(True)


def relink(content: Tag, page: str, pages: set[str]) -> None:
    """Give ids the name of their page and let everything that points at them follow."""
    for tag in content.find_all(True):
        if "id" in tag.attrs:
            tag["id"] = name(page, tag["id"])
        for key in REFERENCES:
            if key in tag.attrs:
                tag[key] = " ".join(name(page, target) for target in tag[key].split())
        for key, value in tag.attrs.items():
            if isinstance(value, str) and "url(#" in value:
                tag[key] = re.sub(r"url\(#([^)]+)\)", rf"url(#{name(page)}--\1)", value)
        for key in ("src", "href", "xlink:href"):
            if key in tag.attrs:
                point(tag, key, page, pages)


def point(tag: Tag, key: str, page: str, pages: set[str]) -> None:
    """Make one link or source right for the document; a link to no page becomes text."""
    url = urlsplit(tag[key])
    if url.scheme or url.netloc:
        return
    path = normpath(join(dirname(page), unquote(url.path))) if url.path else f"{page}.html"
    target = path.removesuffix(".html")
    if target in pages:
        tag[key] = "#" + name(target, unquote(url.fragment))
    elif tag.name == "a":
        tag.unwrap()
    else:
        tag[key] = "/" + path


def document(site: Path, listed: dict[str, list[str]], config: dict) -> BeautifulSoup:
    """Return the whole book as one page of HTML."""
    pages = [page for chapters in listed.values() for page in chapters]
    articles = {page: article(site, page, set(pages)) for page in pages}
    titles = {page: content.h1.get_text(strip=True) for page, content in articles.items()}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    root = next(iter(articles))
    head = BeautifulSoup((site / f"{root}.html").read_text(), "html.parser").head
    base = dirname(root)
    kept = head.find_all("link", rel="stylesheet") + [
        script for script in head.find_all("script") if "mathjax" in str(script).lower()
    ]
    for tag in kept:
        for key in ("href", "src"):
            if key in tag.attrs and not urlsplit(tag[key]).scheme:
                tag[key] = "/" + normpath(join(base, tag[key]))
    return BeautifulSoup(
        f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{html.escape(config["title"])}</title>
{"".join(map(str, kept))}
<script>window.MathJax = {{...window.MathJax, startup: {{typeset: false}}}}</script>
<style>{STYLE.read_text()}{"".join(running_heads(titles))}</style></head>
<body><div class="title-page">
<img src="/_static/{Path(config["logo"]).name}" alt="">
<p class="title">{html.escape(config["title"])}</p><p>{html.escape(config["author"])}</p>
<p class="edition">Version {version}<br>{config["repository"]["url"]}</p></div>
<nav class="table-of-contents"><p class="title">Contents</p>{contents(listed, titles)}</nav>
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">
{"".join(map(str, articles.values()))}
</div></div></main></body></html>""",
        "html.parser",
    )


def contents(listed: dict[str, list[str]], titles: dict[str, str]) -> str:
    """Return the table of contents; the page numbers are still missing."""
    lines = []
    for part, chapters in listed.items():
        lines += [f"<p>{html.escape(part)}</p>"] if part else []
        for page in chapters:
            title = html.escape(titles[page])
            lines.append(f'<a href="#{name(page)}"><span>{title}</span><i></i><b>&numsp;</b></a>')
    return "".join(lines)


def running_heads(titles: dict[str, str]) -> Iterator[str]:
    """Yield the style that prints the title of a chapter above its pages."""
    for page, title in titles.items():
        text = json.dumps(title, ensure_ascii=False)
        yield f"@page {name(page)} {{ @top-left {{ content: {text} }} }}"
        yield f"#{name(page)} {{ page: {name(page)} }}"


@contextmanager
def opened(site: Path, book: str) -> Iterator[Page]:
    """Open a document in Chromium with the files of the site around it, typeset."""

    def answer(route: Route) -> None:
        path = unquote(urlsplit(route.request.url).path)
        if path == "/":
            route.fulfill(body=book, content_type="text/html; charset=utf-8")
        else:
            route.fulfill(path=site / path.lstrip("/"))

    with chromium() as browser:
        tab = browser.new_page()
        tab.route(f"{ADDRESS}/**", answer)
        tab.goto(ADDRESS, wait_until="networkidle")
        if not tab.evaluate(TYPESET):
            raise ConnectionError(
                "this site was built without npm: its mathematics comes from the web, and the "
                "web cannot be reached"
            )
        yield tab


def write(site: Path, target: Path) -> None:
    """Print a built site.

    Parameters
    ----------
    site : Path
        The folder that `make book` built.
    target : Path
        The PDF.

    Raises
    ------
    FileNotFoundError
        If a page of ``_toc.yml`` was not built, or there is no Chromium.
    ConnectionError
        If the mathematics of the site cannot be loaded.
    """
    config = configuration()
    book = document(site, parts(), config)
    with opened(site, str(book)) as tab:
        tab.evaluate(NUMBER, page_numbers(PdfReader(BytesIO(on_paper(tab)))))
        pdf = PdfWriter(clone_from=BytesIO(on_paper(tab)))
        title_bookmarks(pdf, tab.evaluate(HEADINGS))
    pdf.page_mode = "/UseOutlines"
    pdf.metadata = {"/Title": config["title"], "/Author": config["author"]}
    target.parent.mkdir(parents=True, exist_ok=True)
    pdf.write(target)
    print(f"{len(pdf.pages)} pages, {target.stat().st_size / 1e6:.1f} MB: {target}")


def on_paper(tab: Page) -> bytes:
    """Print what a tab shows."""
    return tab.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def page_numbers(pdf: PdfReader) -> dict[str, int]:
    """Return on which page of a PDF every target of a link is."""
    return {
        target.removeprefix("/"): 1 + pdf.get_destination_page_number(there)
        for target, there in pdf.named_destinations.items()
    }


def title_bookmarks(pdf: PdfWriter, titles: list[str]) -> None:
    """Give every bookmark the text of its heading.

    Chromium has one for each heading, in their order, but says twice what it moved to another
    page to keep it with its text.
    """
    bookmarks = list(under(pdf.get_outline_root()))
    for bookmark, title in zip(bookmarks, titles, strict=True):
        bookmark[NameObject("/Title")] = TextStringObject(title)


def under(parent: dict) -> Iterator[dict]:
    """Yield all bookmarks under another one, in the order of the book."""
    child = parent.get("/First")
    while child is not None:
        child = child.get_object()
        yield child
        yield from under(child)
        child = child.get("/Next")


def main() -> None:
    """Print the book that `make book` built."""
    site, target = map(Path, sys.argv[1:])
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # Chromium counts objects otherwise
    try:
        write(site, target)
    except (FileNotFoundError, ConnectionError, Error) as error:
        sys.exit(f"make: no PDF, because {error}")


if __name__ == "__main__":
    main()
