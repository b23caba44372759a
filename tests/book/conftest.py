import os
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def pages() -> list[str]:
    """Return every page of _toc.yml, without suffix, the front page first."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", pages())
    if "chapter" in metafunc.fixturenames:
        metafunc.parametrize("chapter", [page for page in pages() if page.startswith("notebooks/")])


@pytest.fixture(scope="session")
def site() -> Path:
    """Return the folder of the built book: SEGLAB_SITE, else what `make test` built last."""
    folder = ROOT / os.environ.get("SEGLAB_SITE", "_build/test/_build/html")
    if not folder.is_dir():
        pytest.skip(f"no book in {folder}: `make test` builds one")
    return folder


@pytest.fixture(scope="session")
def self_contained(site) -> bool:
    """Whether the book carries its mathematics and sliders; without npm it links to them."""
    return "https://cdn.jsdelivr.net/" not in (site / "book" / "notation.html").read_text()


@pytest.fixture(scope="session")
def needs_local_scripts(self_contained) -> None:
    """Skip what can only be seen when the scripts are part of the book."""
    if not self_contained:
        pytest.skip("built without npm: mathematics and sliders come from the web")
