"""What this book adds to Jupyter Book, as a Sphinx extension.

Outputs are never stale, pages need no web, and a link to a reference is checked like any other.
"""

import hashlib
import os
import re
import shutil
import textwrap
from pathlib import Path

import mathematics
import styles
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / ".vendor" / "pages"

# The style sheets that pages asked for, in their order.
_styles: dict[str, None] = {}


def fingerprint(root: Path = ROOT) -> str:
    """Hash everything but a chapter's own code that its outputs depend on.

    That is the package, the recorded results that chapters read, and the versions of libraries;
    not how fast the finished pages are.
    """
    files = [
        *(root / "seglab").rglob("*.py"),
        *(p for p in (root / "book" / "results").rglob("*.json") if p.stem != "lighthouse"),
        root / "requirements.txt",
    ]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def keep_outputs_fresh(app: Sphinx, config: Config) -> None:
    """Put the cache of executed chapters where only this package and profile find it.

    Jupyter Book's cache knows a chapter by its code alone: after a change in ``seglab`` it would
    go on showing what the old package printed.
    """
    profile = os.environ.get("SEGLAB_PROFILE", "default")
    caches = Path(app.outdir).parent / ".jupyter_cache"
    cache = caches / f"{profile}-{fingerprint()}"
    for other in caches.glob("*"):
        if other != cache:
            shutil.rmtree(other, ignore_errors=True)
    config.nb_execution_cache_path = str(cache)


def run_one_chapter(app: Sphinx, config: Config) -> None:
    """Leave every chapter but ``SEGLAB_CHAPTER`` without outputs (``make fast``)."""
    chapter = os.environ.get("SEGLAB_CHAPTER")
    if chapter:
        chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
        config.nb_execution_excludepatterns = [
            f"notebooks/{name}.ipynb" for name in chapters if name != chapter
        ]


def choose_scripts(app: Sphinx, config: Config) -> None:
    """Take mathematics and sliders from the book itself, or from the web where `make` could not.

    Pages without sliders load no code for them; with sliders, when one comes near the screen.
    """
    widgets = "widgets/embed.js"
    if PAGES.is_dir() and shutil.which("node"):
        config.html_static_path.append(str(PAGES))
        config.html_math_renderer = "typeset"
    else:
        config.mathjax_path = "https://cdn.jsdelivr.net/npm/mathjax@3.2.2/es5/tex-mml-chtml.js"
        widgets = "https://cdn.jsdelivr.net/npm/@jupyter-widgets/html-manager@1.0.15/dist/embed.js"
        logger.info("No local scripts: mathematics and sliders of these pages come from the web.")
    config.nb_ipywidgets_js = {"sliders.js": {"data-embed": widgets}}


def fold_quiz_code(app: Sphinx, doctree: nodes.document) -> None:
    """Fold away the code of a quiz, which holds the answers."""
    for cell in doctree.findall(nodes.container):
        if cell.get("nb_element") == "cell_code" and "interactive.quiz(" in cell.astext():
            cell["hide_mode"] = "input"
            cell["prompt_show"] = "Show the code of this quiz, with its answers"
            cell["prompt_hide"] = "Hide the code of this quiz"


def keep_tagged_formulas_whole(app: Sphinx, doctree: nodes.document) -> None:
    r"""Show a formula that has both ``\\`` and ``\tag``.

    Sphinx wraps whatever has a line break into ``split``, where MathJax allows no tag.
    """
    for formula in doctree.findall(nodes.math_block):
        text = formula.astext()
        if r"\\" in text and r"\tag" in text and not formula.get("nowrap"):
            formula.children = [nodes.Text(rf"\[{text}\]")]
            formula["nowrap"] = True


def lighten_page(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Let a page show its text before anything else: one style sheet, no script in its way.

    Thebe, which Jupyter Book loads twice on every page, is left out: this book never uses it. So
    are the lines that search as one types would need. The pictures of sliders go to the end.
    """
    _styles.update(dict.fromkeys(sheet.filename for sheet in context["css_files"]))
    unused = ("thebe", "DOCUMENTATION_OPTIONS.")
    scripts = [
        script
        for script in context["script_files"]
        if not any(word in f"{script.filename} {script.attributes}" for word in unused)
    ]
    if page != "search":  # whose own scripts wait for nobody
        scripts = [defer(script) if script.filename else script for script in scripts]
    state = "application/vnd.jupyter.widget-state+json"
    context["script_files"] = [s for s in scripts if s.attributes.get("type") != state]
    context["slider_states"] = [s for s in scripts if s.attributes.get("type") == state]


def defer(script):
    """Return a script that runs when the page is there."""
    attributes = script.attributes | {"defer": "defer"}
    return type(script)(script.filename, priority=script.priority, **attributes)


def describe_page(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Give search engines a page's first paragraph, which is its promise."""
    paragraph = next(doctree.findall(nodes.paragraph), None) if doctree else None
    text = " ".join(paragraph.astext().split()) if paragraph else app.config.project
    context["page_description"] = textwrap.shorten(text, 160, placeholder="...")


def mend_markup(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Mend what screen readers stumble over in the HTML of Jupyter Book.

    A table whose corner is empty names its rows in the first column; the button that unfolds
    code is named by its text.
    """
    corner = re.compile(r'<th(?: class="head[^"]*")?>(?:<p></p>)?</th>')
    first = re.compile(r"(<tr[^>]*>\s*)<td([^>]*)>(.*?)</td>", re.DOTALL)

    def name_rows(table):
        if not corner.search(table[0]):
            return table[0]
        return corner.sub("<td></td>", first.sub(r'\1<th scope="row"\2>\3</th>', table[0]))

    body = re.sub(r"<table.*?</table>", name_rows, context.get("body", ""), flags=re.DOTALL)
    context["body"] = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")


def thin_out_code(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Take the marks from names, operators and punctuation, which have the color of the text.

    They are half of all elements of a chapter, and a phone must lay out every one.
    """
    plain = re.compile(r'<span class="(?:n|nn|o|p|w)">([^<]*)</span>')
    context["body"] = plain.sub(r"\1", context.get("body", ""))


def finish_styles(app: Sphinx, exception: Exception | None) -> None:
    """Write the one style sheet, and take away the icons that it replaces."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    names = ["styles/theme.css", "styles/pydata-sphinx-theme.css"]
    names += [name.removeprefix("_static/") for name in _styles if "thebe" not in name]
    if app.builder.math_renderer_name == "typeset":
        (site / "_static" / "mathjax.css").write_text(mathematics.run_mathjax([])["sheet"])
        names.append("mathjax.css")
    styles.write_sheet(site, names)
    shutil.rmtree(site / "_static" / "vendor", ignore_errors=True)
    for icons in (site / "_static" / "scripts").glob("fontawesome*"):
        icons.unlink()


def read_failed_chapters_again(app: Sphinx, env, added, changed, removed) -> list[str]:
    """Count a chapter that failed last time as changed, or a second build would call it good."""
    reports = Path(app.outdir) / "reports"
    failed = {report.relative_to(reports) for report in reports.rglob("*.err.log")}
    shutil.rmtree(reports, ignore_errors=True)
    pages = {path.as_posix().removesuffix(".err.log") for path in failed}
    return sorted(pages & set(env.found_docs))


def let_links_find_targets(app: Sphinx, doctree: nodes.document) -> None:
    """Accept ``page.md#target`` for every target of a page, not for its headings alone.

    References stand in a list, not under headings, and chapters link to them this way because
    Colab and GitHub understand it too.
    """
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for target in doctree.ids:
        slugs.setdefault(target, (0, target, ""))


def setup(app: Sphinx) -> dict:
    """Connect the functions above to the build."""
    app.connect("config-inited", keep_outputs_fresh)
    app.connect("config-inited", run_one_chapter)
    app.connect("config-inited", choose_scripts)
    app.connect("env-get-outdated", read_failed_chapters_again)
    app.connect("doctree-read", fold_quiz_code)
    app.connect("doctree-read", keep_tagged_formulas_whole)
    app.connect("doctree-read", let_links_find_targets)
    app.connect("html-page-context", lighten_page, priority=900)
    app.connect("html-page-context", describe_page, priority=900)
    app.connect("html-page-context", mend_markup, priority=900)
    app.connect("html-page-context", thin_out_code, priority=900)
    # after the theme, which writes its colors of code when the build finishes
    app.connect("build-finished", finish_styles, priority=900)
    mathematics.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
