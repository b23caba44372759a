"""Bring the README up to date: its list of chapters, and its picture of the front page.

``make readme``. The picture is taken of the built book, in light and dark.
"""

import io
import json
import re
import sys
from pathlib import Path

import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "book" / "pictures"
LIST = re.compile(r"(?<=<!-- chapters: make readme -->\n).*(?=<!-- end of chapters -->)", re.S)
SCREEN = {"width": 1280, "height": 800}


def title(notebook: Path) -> str:
    """Return the heading of a chapter."""
    first = json.loads(notebook.read_text())["cells"][0]["source"]
    return re.match(r"# (.+)", "".join(first))[1]


def chapters(root: Path = ROOT) -> str:
    """Return the chapters of ``_toc.yml`` as a list, part by part."""
    lines = []
    for part in yaml.safe_load((root / "_toc.yml").read_text())["parts"]:
        files = [f"{c['file']}.ipynb" for c in part["chapters"] if "notebooks/" in c["file"]]
        if files:
            lines += [f"\n**{part['caption']}**\n"]
            lines += [f"- [{title(root / file)}]({file})" for file in files]
    return "\n".join(lines) + "\n\n"


def write_chapters(root: Path = ROOT) -> None:
    """Put the list of chapters between its marks in the README."""
    readme = root / "README.md"
    readme.write_text(LIST.sub(lambda _: chapters(root), readme.read_text()))


def photograph(site: Path) -> None:
    """Take a picture of the built front page, once in light and once in dark."""
    from book.tools.browser import chromium

    PICTURES.mkdir(exist_ok=True)
    page = (site / "index.html").resolve().as_uri()
    with chromium() as browser:
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport=SCREEN, color_scheme=scheme)
            tab.goto(page, wait_until="networkidle")
            tab.wait_for_timeout(500)  # the theme fades its colors in
            picture = Image.open(io.BytesIO(tab.screenshot()))
            picture.save(PICTURES / f"front_page_{scheme}.webp", quality=85, method=6)


def main() -> None:
    """Write the list; take the pictures if there is a book."""
    write_chapters()
    site = Path(sys.argv[1])
    if (site / "index.html").is_file():
        photograph(site)
    else:
        print(f"make: no book in {site}, so the pictures stay; `make book` builds one")


if __name__ == "__main__":
    main()
