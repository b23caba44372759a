"""What this book adds to Jupyter Book."""

import base64
import importlib.util
import io
import re
import shutil
import sys

import pytest
from docutils import nodes
from fontTools.ttLib import TTFont

from tests.book.conftest import ROOT

EXTENSION = ROOT / "book" / "extension"


def load(name):
    if str(EXTENSION) not in sys.path:
        sys.path.append(str(EXTENSION))
    path = EXTENSION / f"{name}.py"
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path):
    shutil.copytree(ROOT / "seglab", tmp_path / "seglab")
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    (tmp_path / "book" / "results").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    "changed", ["seglab/models/fcn.py", "requirements.txt", "book/results/run.json"]
)
def test_chapters_run_again_when_what_they_depend_on_changes(checkout, changed):
    fingerprint = load("seglab_book").fingerprint
    before = fingerprint(checkout)
    with (checkout / changed).open("a") as file:
        file.write("# changed\n")
    assert fingerprint(checkout) != before


def test_chapters_do_not_run_again_for_anything_else(checkout):
    fingerprint = load("seglab_book").fingerprint
    before = fingerprint(checkout)
    (checkout / "README.md").write_text("changed")
    (checkout / "book" / "results" / "lighthouse.json").write_text("{}")
    (checkout / "seglab" / "__pycache__").mkdir(exist_ok=True)
    (checkout / "seglab" / "__pycache__" / "fcn.pyc").write_text("changed")
    assert fingerprint(checkout) == before


def test_a_package_with_another_checksum_is_refused(tmp_path, monkeypatch):
    vendor = load("vendor")

    def npm(command, **options):
        (tmp_path / "mathjax.tgz").write_bytes(b"something else")
        return vendor.subprocess.CompletedProcess(command, 0, stdout="mathjax.tgz\n")

    monkeypatch.setattr(vendor.subprocess, "run", npm)
    with pytest.raises(ValueError, match=r"mathjax@3\.2\.2: expected SHA-512"):
        vendor.fetch(*vendor.PACKAGES[0][:2], tmp_path)


def test_without_npm_the_pages_get_their_scripts_from_the_web(capsys, monkeypatch, tmp_path):
    vendor = load("vendor")
    monkeypatch.setattr(vendor, "VENDOR", tmp_path / ".vendor")
    monkeypatch.setattr(vendor.shutil, "which", lambda name: None)
    vendor.main()
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert not (tmp_path / ".vendor").exists()


@pytest.fixture
def small_site(tmp_path):
    static = tmp_path / "_static"
    (static / "styles").mkdir(parents=True)
    icons = "@font-face{font-family:Icons;src:url(../fonts/fa-solid-900.woff2) format('woff2')}"
    icons += r'.fa-sun:before{content:"\f185"}.fa-bus:before{content:"\f207"}'
    (static / "base.css").write_text("p{margin:0}")
    (static / "styles" / "theme.css").write_text(
        f'@import "../base.css";{icons}.used{{background:url(../dot.png)}}.unused{{top:0}}'
    )
    (static / "own.css").write_text(".made-by-script .used:not(.unused){left:0}")
    (static / "own.js").write_text("e.classList.add('made-by-script')")
    (tmp_path / "page.html").write_text('<p class="used"><i class="fa-sun"></i></p>')
    return tmp_path


def test_one_sheet_keeps_what_a_page_or_a_script_uses(small_site):
    styles = load("styles")
    styles.write_sheet(small_site, ["styles/theme.css", "own.css"])
    sheet = (small_site / "_static" / styles.SHEET).read_text()
    assert "p{margin:0}" in sheet
    assert "@import" not in sheet
    assert ".used{background:url(dot.png)}" in sheet
    assert ".made-by-script .used:not(.unused){left:0}" in sheet
    assert ".unused{" not in sheet


def test_only_the_icons_of_some_page_are_in_the_sheet(small_site):
    styles = load("styles")
    styles.write_sheet(small_site, ["styles/theme.css", "own.css"])
    sheet = (small_site / "_static" / styles.SHEET).read_text()
    assert "fa-sun" in sheet
    assert "fa-bus" not in sheet
    font = base64.b64decode(re.search(r"base64,([^)\"]+)", sheet)[1])
    assert set(TTFont(io.BytesIO(font)).getBestCmap()) == {0xF185}


needs_node = pytest.mark.skipif(
    shutil.which("node") is None or not (ROOT / ".vendor" / "mathjax").is_dir(),
    reason="formulas are typeset by Node with what npm fetched",
)


@needs_node
def test_formulas_become_html_with_mathml_for_screen_readers():
    html, other = load("mathematics").run_mathjax([("a^2", False), (r"\frac{1}{2}", True)])[
        "formulas"
    ]
    assert "<msup><mi>a</mi><mn>2</mn></msup>" in html
    assert "<mfrac><mn>1</mn><mn>2</mn></mfrac>" in other
    assert 'display="true"' in other


@needs_node
def test_a_formula_that_tex_does_not_understand_is_a_warning(caplog):
    mathematics = load("mathematics")
    mathematics.html_of(nodes.math_block("", r"\nothing + \frac{1}"))
    assert "TeX does not understand" in caplog.text


def test_rows_of_a_table_with_an_empty_corner_get_their_names():
    cells = "<tr><th></th><th>IoU</th></tr><tr><td>sky</td><td>0.9</td></tr>"
    context = {
        "body": f"<table>{cells}</table><table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
    }
    load("seglab_book").mend_markup(None, "", "", context, None)
    assert '<tr><td></td><th>IoU</th></tr><tr><th scope="row">sky</th>' in context["body"]
    assert "<tr><th>a</th></tr><tr><td>1</td></tr>" in context["body"]
