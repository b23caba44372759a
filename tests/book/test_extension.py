"""What this book adds to Jupyter Book."""

import importlib.util
import shutil

import pytest

from tests.book.conftest import ROOT


def load(name):
    path = ROOT / "book" / "extension" / f"{name}.py"
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
