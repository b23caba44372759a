"""One small style sheet for the whole book, from the dozen that its themes bring.

A page would fetch 500 kB of rules and 1.5 MB of icons before it shows a word. Here the sheets
become one file, without the rules that no page uses, and with the few icons that some page shows.
"""

import base64
import io
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

import lightningcss
import pydata_sphinx_theme
from fontTools import subset
from fontTools.ttLib import TTFont

SHEET = "seglab.css"  # under _static
THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
ICONS = THEME / "vendor" / "fontawesome" / "webfonts"
ICON = re.compile(r'((?:\.fa-[\w-]+::?before,?)+)\{content:"\\([0-9a-f]+)"\}')
FONT = re.compile(r"src:url\(([^)]+)\.woff2\)[^;}]*")


def read_sheet(static: Path, name: str) -> str:
    """Return a style sheet of ``_static`` with what it imports, its links relative to there."""
    folder = posixpath.dirname(name)

    def embed(match):
        return read_sheet(static, posixpath.normpath(posixpath.join(folder, match[1])))

    def move(match):
        return f"url({posixpath.normpath(posixpath.join(folder, match[1]))})"

    sheet = (static / name).read_text("utf-8")
    sheet = re.sub(r"(?<!@import )url\([\"']?(?!data:)([^\"'#)]+)[\"']?\)", move, sheet)
    return re.sub(r"@import (?:url\()?[\"']([^\"']+)[\"']\)?;", embed, sheet)


def words_of(site: Path) -> set[str]:
    """Return every class and id that a page has, or that a script could give to an element.

    Icons are those of the pages: the sliders' script names thousands and brings its own.
    """
    words = set()
    for page in site.rglob("*.html"):
        for names in re.findall(r'(?:class|id)=\\?"([^"\\]*)', page.read_text("utf-8")):
            words.update(names.split())
    for script in (site / "_static").rglob("*.js"):
        words.update(re.findall(r"(?!fa-)\b[A-Za-z_][\w-]*", script.read_text("utf-8")))
    return words


def embed_icons(sheet: str, words: set[str]) -> str:
    """Put the icons that are used into the sheet itself, and drop the fonts' other thousands."""
    codes = set()

    def keep(match):
        if not words & set(re.findall(r"\.(fa-[\w-]+)", match[1])):
            return ""
        codes.add(int(match[2], 16))
        return match[0]

    def embed(match):
        font = TTFont(ICONS / f"{posixpath.basename(match[1])}.ttf")
        chosen = subset.Subsetter(subset.Options(layout_features=[]))
        chosen.populate(unicodes=codes)
        chosen.subset(font)
        font.flavor = "woff"
        file = io.BytesIO()
        font.save(file)
        return f"src:url(data:font/woff;base64,{base64.b64encode(file.getvalue()).decode()})"

    return FONT.sub(embed, ICON.sub(keep, sheet))


def write_sheet(site: Path, names: Iterable[str]) -> None:
    """Write the book's one style sheet.

    Parameters
    ----------
    site : Path
        Folder of the finished pages.
    names : list of str
        The style sheets in their order, relative to ``_static``.
    """
    static = site / "_static"
    words = words_of(site)
    sheet = embed_icons("\n".join(read_sheet(static, name) for name in names), words)
    unused = set(re.findall(r"[.#](-?[A-Za-z_][\w-]*)", sheet)) - words
    (static / SHEET).write_text(
        lightningcss.process_stylesheet(sheet, unused_symbols=unused, minify=True), "utf-8"
    )
