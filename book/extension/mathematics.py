"""Formulas are typeset when the book is built: a page shows them at once and needs no script.

MathJax runs in Node here and leaves HTML, a style sheet, and MathML for screen readers. In the
browser the same would cost a phone two seconds of computing on every page.
"""

import json
import re
import subprocess
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number, wrap_displaymath

logger = logging.getLogger(__name__)

SCRIPT = Path(__file__).with_name("typeset.cjs")
MATHJAX = SCRIPT.parents[2] / ".vendor" / "mathjax"

_known: dict[tuple[str, bool], str] = {}


def run_mathjax(formulas: list[tuple[str, bool]]) -> dict:
    """Return HTML of each (TeX, is it displayed), and the style sheet of all possible formulas."""
    command = ["node", str(SCRIPT), str(MATHJAX)]
    output = subprocess.run(
        command, input=json.dumps(formulas), capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(output.stdout)


def formula_of(node: nodes.math | nodes.math_block) -> tuple[str, bool]:
    """Return a node's TeX, and whether it stands on a line of its own."""
    text = node.astext()
    if isinstance(node, nodes.math):
        return text, False
    if node.get("nowrap"):
        return text.removeprefix(r"\[").removesuffix(r"\]"), True
    # TeX breaks lines and paragraphs inside an environment only.
    return (wrap_displaymath(text, None, False) if re.search(r"\\\\|\n\n", text) else text), True


def html_of(node: nodes.math | nodes.math_block) -> str:
    """Return a formula as HTML; one that TeX does not understand is a warning."""
    formula = formula_of(node)
    if formula not in _known:
        _known[formula] = run_mathjax([formula])["formulas"][0]
    if "data-mjx-error" in _known[formula]:
        logger.warning("TeX does not understand %s", formula[0], location=node)
    return _known[formula]


def typeset_page(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Typeset all formulas of a page in one run of Node."""
    if app.builder.math_renderer_name != "typeset":
        return
    found = doctree.findall(lambda node: isinstance(node, nodes.math | nodes.math_block))
    new = list(dict.fromkeys(formula_of(node) for node in found))
    new = [formula for formula in new if formula not in _known]
    if new:
        _known.update(zip(new, run_mathjax(new)["formulas"], strict=True))


def visit_inline(writer, node: nodes.math) -> None:
    """Write a formula inside a line."""
    writer.body.append(writer.starttag(node, "span", "", CLASS="math notranslate"))
    writer.body.append(f"{html_of(node)}</span>")
    raise nodes.SkipNode


def visit_display(writer, node: nodes.math_block) -> None:
    """Write a formula on a line of its own, with its number where it has one."""
    writer.body.append(writer.starttag(node, "div", CLASS="math notranslate"))
    if node.get("number"):
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})')
        writer.add_permalink_ref(node, _("Link to this equation"))
        writer.body.append("</span>")
    writer.body.append(f"{html_of(node)}</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Offer this way to write mathematics under the name ``typeset``."""
    app.add_html_math_renderer("typeset", (visit_inline, None), (visit_display, None))
    app.connect("doctree-resolved", typeset_page)
