"""The zip of the site: the same bytes every time, and a book that opens from a memory stick."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
from playwright.sync_api import sync_playwright

from tests.book.conftest import ROOT, pages
from tests.book.test_browser import CHROMIUM, KNOWN


def pack(site, target):
    command = [sys.executable, ROOT / "book" / "tools" / "archive.py", site, target]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def archive(site, tmp_path_factory):
    target = tmp_path_factory.mktemp("dist") / "book-1.2.zip"
    verdict = pack(site, target)
    assert verdict.returncode == 0, verdict.stderr
    return target


@pytest.fixture(scope="module")
def stick(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stick with a space")
    with ZipFile(archive) as content:
        content.extractall(folder)
    return folder / "book-1.2"


def test_the_same_site_gives_the_same_bytes(site, archive, tmp_path):
    shutil.copytree(site, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "index.html", (0, 0))
    (tmp_path / "copy" / "index.html").chmod(0o600)
    pack(tmp_path / "copy", tmp_path / archive.name)
    assert (tmp_path / archive.name).read_bytes() == archive.read_bytes()


def test_another_site_gives_another_checksum(site, archive, tmp_path):
    shutil.copytree(site, tmp_path / "copy")
    (tmp_path / "copy" / "index.html").write_text("another book")
    pack(tmp_path / "copy", tmp_path / archive.name)
    checksums = {
        path.with_suffix(".zip.sha256").read_text() for path in (archive, tmp_path / archive.name)
    }
    assert len(checksums) == 2


def test_the_checksum_is_that_of_the_archive(archive):
    checksum, name = archive.with_suffix(".zip.sha256").read_text().split()
    assert name == archive.name
    assert checksum == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_every_file_fits_on_a_memory_stick(archive):
    names = ZipFile(archive).namelist()
    assert {name.split("/")[0] for name in names} == {archive.stem}
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert not re.search(r'[\\:*?"<>|]|[. ](/|$)|/\.', name), name
        assert len(name) < 200, name


def test_every_page_is_there(site, stick):
    for page in ("index", *pages()):
        packed = (stick / f"{page}.html").read_bytes()
        assert packed == (site / f"{page}.html").read_bytes()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH, archive not opened")
@pytest.mark.usefixtures("needs_local_scripts")
def test_it_opens_without_a_server_and_without_a_network(stick):
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        tab = browser.new_page()
        troubles = []
        tab.on("console", lambda m: troubles.append(m.text) if m.type == "error" else None)
        tab.on("requestfailed", lambda request: troubles.append(request.url))
        tab.on("request", lambda r: urlsplit(r.url).scheme[:4] == "http" and troubles.append(r.url))
        tab.goto((stick / "index.html").as_uri(), wait_until="networkidle")
        assert tab.url == (stick / f"{pages()[0]}.html").as_uri()
        tab.goto((stick / "book" / "notation.html").as_uri(), wait_until="networkidle")
        tab.evaluate("() => window.MathJax?.startup?.promise")  # where the build typeset nothing
        assert tab.locator("article mjx-container").count() > 0
        browser.close()
    assert not [trouble for trouble in troubles if not any(known in trouble for known in KNOWN)]


def test_a_folder_without_a_book_is_refused(tmp_path):
    verdict = pack(tmp_path, tmp_path / "book.zip")
    assert verdict.returncode == 1
    assert "make book" in verdict.stderr
    assert not (tmp_path / "book.zip").exists()
