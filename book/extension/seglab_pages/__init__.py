"""Pages that write themselves, as a Sphinx extension.

A page in ``book/`` says ``<!-- write: model-table -->`` where a table is to stand, and the build
puts it there. Links to chapters of the plan that are not written yet become text. The glossary
and the references say where they are used.
"""

import re
from collections.abc import Callable

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from . import chapters, sheets, status

WRITERS: dict[str, Callable[[], str]] = {
    "model-table": sheets.model_table,
    "model-figure": sheets.model_figure,
    "model-sheets": sheets.model_sheets,
    "loss-table": sheets.loss_table,
    "loss-sheets": sheets.loss_sheets,
    "environment": status.environment,
    "recorded-runs": status.recorded_runs,
    "checks": status.checks,
}

# Pages with back-links, and how these begin.
BACK_LINKS = {"book/glossary": "Used in ", "book/references": "Cited in "}
ENTRIES = (nodes.list_item, nodes.definition_list_item)
STATUS = "book/status"


def written(text: str, writers: dict[str, Callable[[], str]]) -> str:
    """Return the Markdown of a page with its generated parts in place.

    Raises
    ------
    ValueError
        If it asks for a part that nobody writes.
    """

    def part(found: re.Match) -> str:
        if found[1] not in writers:
            raise ValueError(f"nobody writes {found[1]!r}; there are {', '.join(writers)}")
        return writers[found[1]]()

    text = re.sub(r"^<!-- write: ([\w-]+) -->$", part, text, flags=re.M)
    return chapters.wait_for_chapters(text)


def write(app: Sphinx, page: str, source: list[str]) -> None:
    """Complete a page of ``book/`` before it is parsed."""
    if page.startswith("book/"):
        executions = {
            name: data.get("exec_data") or {}
            for name, data in NbMetadataCollector.get_doc_data(app.env).items()
        }
        seconds = {"chapter-seconds": lambda: status.chapter_seconds(executions)}
        try:
            source[0] = written(source[0], WRITERS | seconds)
        except ValueError as error:
            raise ExtensionError(f"{page}: {error}") from error


def read_again(app: Sphinx, env: BuildEnvironment, added, changed, removed) -> list[str]:
    """Count every page with something generated as changed: it depends on all other files."""
    generated = {STATUS, *BACK_LINKS, "book/models", "book/lecture"}
    return sorted(generated & env.found_docs)


def read_status_last(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Let the status page wait until the seconds of every chapter are known."""
    pages.sort(key=lambda page: page == STATUS)


def back_links(target: str) -> dict[str, list[chapters.Section]]:
    """Return, for every anchor of a page, where the book links to it: once for each page.

    Parameters
    ----------
    target : str
        ``book/glossary`` or ``book/references``.
    """
    found: dict[str, dict[str, chapters.Section]] = {}
    for page in chapters.pages():
        if page not in (target, STATUS):
            text = written(chapters.markdown(page), WRITERS)
            for section in chapters.sections(page, text):
                for anchor in chapters.links(section, f"{target.removeprefix('book/')}.md"):
                    found.setdefault(anchor, {}).setdefault(page, section)
    return {anchor: list(places.values()) for anchor, places in found.items()}


class AddBackLinks(SphinxPostTransform):
    """Say below a term or a reference where it is used."""

    default_priority = 7  # after the bibliography is made (5)

    def run(self, **kwargs) -> None:
        """Complete the glossary or the references; leave other pages alone."""
        page = self.env.docname
        if page not in BACK_LINKS:
            return
        places = back_links(page)
        for entry in list(self.document.findall(lambda node: isinstance(node, ENTRIES))):
            marked = [entry, *entry.findall(nodes.term)]
            anchors = [anchor for node in marked for anchor in node["ids"]]
            sections = [section for anchor in anchors for section in places.get(anchor, [])]
            if sections:
                last = entry.children[-1]
                below = last if isinstance(last, nodes.definition) else entry
                below.append(self.paragraph(BACK_LINKS[page], sections))

    def paragraph(self, begin: str, sections: list[chapters.Section]) -> nodes.paragraph:
        """Return a line of links to sections."""
        line = nodes.paragraph("", begin, classes=["back-links"])
        for number, section in enumerate(sections):
            slugs = self.env.metadata[section.page].get("myst_slugs", {})
            anchor = slugs[section.slug][1]
            words = nodes.inline("", section.name)
            line += nodes.Text("; " if number else "")
            line += make_refnode(self.app.builder, self.env.docname, section.page, anchor, words)
        return line


def setup(app: Sphinx) -> dict:
    """Connect the functions above to the build."""
    app.connect("source-read", write)
    app.connect("env-get-outdated", read_again)
    app.connect("env-before-read-docs", read_status_last)
    app.add_post_transform(AddBackLinks)
    # Chapters are timed, so they are read one after the other.
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
