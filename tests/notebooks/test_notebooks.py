"""What every chapter has in common, read from the files without running them."""

import ast
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]

SETUP = f"""\
# The same cell in every chapter: on Colab it installs seglab and
# leaves torch as it is; anywhere else it only sets things up.
import sys

if "google.colab" in sys.modules:
    %pip install -q --no-deps git+{REPOSITORY}

import seglab

run = seglab.setup(seed=0)"""

FROM_THE_NETWORK = re.compile(
    r"urlretrieve|urlopen|\brequests\b|\bwget\b|\bcurl\b|\bpooch\b|hf_hub|torch\.hub\.load"
)

every_chapter = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def sources(path, kind):
    return [cell.source for cell in read(path).cells if cell.cell_type == kind]


def prose(path):
    """Markdown of a chapter without its code blocks and formulas."""
    text = "\n\n".join(sources(path, "markdown"))
    text = re.sub(r"^(`{3,}).*?^\1", "", text, flags=re.S | re.M)
    return re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)


def headings(path):
    """(level, text) of every heading, in order."""
    return [(len(m[1]), m[2]) for m in re.finditer(r"^(#+) +(.+)$", prose(path), re.M)]


def slug(heading):
    """Anchor of a heading, as GitHub and the book make it."""
    plain = re.sub(r"\$|[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@every_chapter
def test_notebook_is_valid_and_stripped(path):
    notebook = read(path)
    nbformat.validate(notebook)
    command = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", str(path)]
    verdict = subprocess.run(command, capture_output=True, text=True)
    assert verdict.returncode == 0, verdict.stdout


@every_chapter
def test_every_cell_has_an_id_of_its_own(path):
    notebook = read(path)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@every_chapter
def test_first_code_cell_is_the_setup_cell(path):
    assert sources(path, "code")[0] == SETUP
    assert sources(path, "code").count(SETUP) == 1


@every_chapter
def test_file_name_and_title_carry_the_same_number(path):
    number = int(re.fullmatch(r"(\d\d)_\w+", path.stem)[1])
    assert read(path).cells[0].cell_type == "markdown"
    level, title = headings(path)[0]
    assert level == 1
    assert title.startswith(f"{number}. ")


@every_chapter
def test_headings_are_in_order(path):
    levels = [level for level, _ in headings(path)]
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


@every_chapter
def test_code_cells_fit_a_phone_and_one_idea(path):
    for source in sources(path, "code"):
        lines = source.splitlines()
        # A quiz is text; the book folds its code away.
        assert len(lines) <= 24 or "interactive.quiz(" in source, f"{len(lines)} lines:\n{source}"
        # The setup cell is as long as the address of the repository makes it.
        assert source == SETUP or max(map(len, lines), default=0) <= 79, source


@every_chapter
def test_no_cell_reaches_for_the_network(path):
    for source in sources(path, "code"):
        found = FROM_THE_NETWORK.search(source)
        assert found is None, f"{found[0]} in\n{source}"


@every_chapter
def test_no_cell_calls_a_shell(path):
    for source in sources(path, "code"):
        assert source == SETUP or not re.search(r"^\s*[!%]", source, re.M), source


@every_chapter
def test_steps_come_from_the_profile(path):
    for source in sources(path, "code"):
        tree = ast.parse("" if source == SETUP else source)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            steps = [k.value for k in call.keywords if k.arg == "steps"]
            is_fit = ast.unparse(call.func).split(".")[-1] == "fit"
            assert not (is_fit and any(isinstance(s, ast.Constant) for s in steps)), source


@every_chapter
def test_a_chapter_reads_its_own_records_after_it_has_written_one(path):
    """`make record` begins with an empty record."""
    code = "\n".join(sources(path, "code"))
    own = re.search(rf"records\.load\(f?.{path.stem}_seed", code)
    assert own is None or 0 <= code.find("records.note(") < own.start()


@every_chapter
def test_internal_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.is_file(), f"{target}: no such file"
        if anchor and page.suffix == ".ipynb":
            assert anchor in {slug(text) for _, text in headings(page)}, (
                f"{target}: no such heading"
            )
        if anchor and page.name == "references.md":
            entries = re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(), re.M)
            assert anchor in entries, f"{target}: not in references.bib"
        if anchor and page.name == "glossary.md":
            terms = re.findall(r"^(\w.*)\n  ", page.read_text(), re.M)
            known = {f"term-{term.replace(' ', '-')}" for term in terms}
            assert anchor in known, f"{target}: no such term"
