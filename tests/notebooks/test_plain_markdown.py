"""A chapter's text is Markdown that Colab, GitHub and JupyterLab render as the book does.

MyST itself is the judge: it parses a cell with all of its extensions, and whatever it makes of it
beyond plain Markdown, tables, formulas and ``<details>`` another reader would show as typed.
"""

import re
from pathlib import Path

import nbformat
import pytest
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

EXTENSIONS = {
    "amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist",
    "html_admonition", "html_image", "smartquotes", "strikethrough", "substitution", "tasklist",
}  # fmt: skip
MYST = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)

# Names of tokens, without _open and _close.
PLAIN = {
    "paragraph", "inline", "text", "softbreak", "hardbreak", "em", "strong", "code_inline", "link",
    "image", "heading", "hr", "bullet_list", "ordered_list", "list_item", "blockquote", "fence",
    "code_block", "table", "thead", "tbody", "tr", "th", "td",
    "math_inline", "math_inline_double", "math_block", "html_block",
}  # fmt: skip
ATTRIBUTES = {"href", "src", "alt", "title", "start", "style"}  # style: a column's alignment
FOLDED = re.compile(r"(<details>\s*)?(<summary>[^<]*</summary>)?|</details>")
LINK = re.compile(r"https?://\S+|#[\w-]+|[\w./-]+\.(ipynb|md)(#[\w-]+)?")


def tokens(parsed):
    for token in parsed:
        yield token
        yield from tokens(token.children or ())


def not_plain(source):
    """What a reader other than the book would not render, one string each."""
    found = []
    previous = None
    for token in tokens(MYST.parse(source)):
        kind = re.sub(r"_(open|close)$", "", token.type)
        special = set(token.attrs) - ATTRIBUTES
        if kind not in PLAIN or special or (kind == "fence" and token.info.startswith("{")):
            text = token.content or token.info or ", ".join(sorted(special)) or token.markup
            found.append(f"{kind}: {text.strip()}")
        if kind == "html_block" and not FOLDED.fullmatch(token.content.strip()):
            found.append(f"HTML, or Markdown without a blank line to HTML: {token.content.strip()}")
        if token.type == "link_open" and not LINK.fullmatch(str(token.attrs["href"])):
            found.append(f"link to {token.attrs['href']}")
        if token.type == "link_close" and previous.type == "link_open":
            found.append("a link without a text")
        if kind == "math_block":
            if re.search(r"^\s*$", token.content.strip(), re.M):
                found.append(f"a blank line ends a formula: {token.content.strip()}")
            if re.search(r"^\s*(=+|-+)\s*$", token.content, re.M):  # colabtools, issue 5581
                found.append(f"a line of = or - is a heading for Colab: {token.content.strip()}")
        previous = token
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_is_plain_markdown(path):
    cells = nbformat.read(path, as_version=4).cells
    found = {
        cell.id: not_plain(cell.source)
        for cell in cells
        if cell.cell_type == "markdown" and not_plain(cell.source)
    }
    assert not found, f"Colab shows these as they are typed: {found}"


@pytest.mark.parametrize(
    "source",
    [
        "```{note}\nText.\n```",
        "~~~{note}\nText.\n~~~",
        "````{note}\n```{tip}\nText.\n```\n````",
        "```{code-block} python\nx = 1\n```",
        ":::{note}\nText.\n:::",
        ":::\nText.\n:::",
        "> :::{note}\n> Text.\n> :::",
        "- ```{note}\n  Text.\n  ```",
        "See {ref}`here`.",
        "See {doc}`here <there>`.",
        "A {math}`x`.",
        "(target)=\n# Heading",
        "{#name .kind}\n# Heading",
        "[words]{.kind}",
        "`code`{l=python}",
        "![alt](image.png){.kind}",
        "{{ value }}",
        "Text {{ value }}.",
        "Term\n: Definition",
        ":field: text",
        "% comment",
        "Text.\n\n+++\n\nText.",
        "---\nkey: value\n---\n\nText.",
        "$$\nx\n$$ (label)",
        "$$\nx\n\ny\n$$",
        "$$\na\n=\nb\n$$",
        "\\begin{align}\nx\n\\end{align}",
        "A note[^1].\n\n[^1]: Its text.",
        "- [ ] to do",
        "~~gone~~",
        "<img src='image.png' alt='x'>",
        "<div class='admonition'>\nText.\n</div>",
        "A <b>word</b>.",
        "<details><summary>Solution</summary>\n$x$\n</details>",
        "[](#heading)",
        "[here](project:#heading)",
        "<project:#heading>",
        "[here](inv:python#dict)",
        "[here](03_learning)",
    ],
)
def test_what_only_the_book_renders_is_found(source):
    assert not_plain(source)


@pytest.mark.parametrize(
    "source",
    [
        "# Heading\n\nSome *words*, **more** and `code`.\n\n1. one\n2. two\n\n- three\n\n> four",
        "| a | b |\n|---|--:|\n| $x$ | `y` |",
        "```python\nx = {1: 2}\n```\n\n~~~\nplain\n~~~",
        "$x_i$ and $$y \\tag{1}$$\n\n$$\ny[s\\,i + a] \\mathrel{+}= x[i]\\, k[a].\n$$",
        "[a](03_learning.ipynb#the-loop), [b](../book/references.md#long2015), [c](#here), "
        "[d](https://example.org/page?x=1#y)",
        "<details><summary>Solution</summary>\n\n$x$ and\n\n```python\nx = 1\n```\n\n</details>",
        "<details>\n<summary>Solution</summary>\n\nText.\n\n</details>",
        "A set {1, 2}, 5 < 6, 50 %, a ~ b, (c)=d.",
    ],
)
def test_what_every_reader_renders_is_not(source):
    assert not_plain(source) == []
