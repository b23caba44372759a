"""What this book adds to Jupyter Book, as a Sphinx extension.

Outputs are never stale, pages need no web, and a link to a reference is checked like any other.
"""

import hashlib
import os
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / ".vendor" / "pages"


def fingerprint(root: Path = ROOT) -> str:
    """Hash everything but a chapter's own code that its outputs depend on.

    That is the package, the recorded results that chapters read, and the versions of libraries.
    """
    files = [
        *(root / "seglab").rglob("*.py"),
        *(root / "book" / "results").rglob("*.json"),
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

    Pages without sliders load no code for them.
    """
    mathjax = "mathjax/tex-mml-chtml.js"
    widgets = "widgets/embed.js"
    if PAGES.is_dir():
        config.html_static_path.append(str(PAGES))
    else:
        mathjax = "https://cdn.jsdelivr.net/npm/mathjax@3.2.2/es5/tex-mml-chtml.js"
        widgets = "https://cdn.jsdelivr.net/npm/@jupyter-widgets/html-manager@1.0.15/dist/embed.js"
        logger.info("No local scripts: mathematics and sliders of these pages come from the web.")
    config.mathjax_path = mathjax
    scripts = ["mathjax-hub.js", widgets, "sliders.js"]
    config.nb_ipywidgets_js = {script: {"defer": "defer"} for script in scripts}


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


def drop_unused_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Leave out Thebe, which Jupyter Book loads twice on every page and this book never uses."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in f"{script.filename} {script.attributes.get('body', '')}"
    ]


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
    app.connect("html-page-context", drop_unused_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
