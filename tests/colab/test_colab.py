"""What a student gets who opens a chapter in Colab: the package beside Colab's own libraries.

The environment is that of image.py, and every chapter gets a fresh copy of it, as in Colab. The
setup cell runs as it stands: git is told to take the working tree for the book's address.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tests import kernels

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "_build" / "colab" / "image"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


def git(folder, *command):
    author = ["-c", "user.name=seglab", "-c", "user.email=seglab@localhost"]
    command = ["git", "-C", str(folder), *author, *command]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """The working tree as a repository, with what is not committed yet."""
    folder = tmp_path_factory.mktemp("repository")
    files = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in files.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "the working tree")
    return folder


@pytest.fixture
def environment(repository):
    """Environment variables of a runtime: nothing of the book's, but git's new address."""
    kept = kernels.environment_without("PYTHON", "SEGLAB", "VIRTUAL_ENV", "GIT_", "JUPYTER", "MPL")
    return kept | {
        "SEGLAB_PROFILE": "fast",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }


@pytest.fixture
def runtime():
    """A copy of the image, whose files are links; returns its Python."""
    if not IMAGE.is_dir():
        pytest.skip("no environment like Colab's: `make colab` builds one, with a network")
    with tempfile.TemporaryDirectory(prefix="runtime-", dir=IMAGE.parent) as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(IMAGE, copy, symlinks=True, copy_function=os.link)
        yield copy / "bin" / "python"


def versions(python):
    """Name -> version of everything that this Python can import."""
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.name: m.version(d.name) for d in m.distributions()}))"
    )
    found = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True)
    return json.loads(found.stdout)


def test_the_image_has_other_versions_than_the_book(runtime):
    there = versions(runtime)
    for name in ("torch", "torchvision", "numpy", "matplotlib", "ipywidgets"):
        assert there[name] != metadata.version(name)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_runs_in_colab_and_changes_nothing_there(path, runtime, environment, tmp_path):
    before = versions(runtime)
    kernels.run(
        path,
        python=runtime,
        first="import google.colab",  # Colab loads it before the notebook runs
        folder=tmp_path,
        environment=environment,
        afterwards=sliders_turn_pages,
    )
    after = versions(runtime)
    assert after.pop("seglab") == metadata.version("seglab")
    assert after == before
    assert not list(tmp_path.iterdir()), "the chapter left files behind"


async def sliders_turn_pages(client):
    """Move every slider to its end, as a reader does; another picture must come into view."""
    for slider, state in list(client.widget_state.items()):
        if state["_model_name"] == "SelectionSliderModel":
            last = len(state["_options_labels"]) - 1
            changes = await kernels.update_widget(client, slider, index=last)
            turned = [
                (widget, change["children"])
                for widget, change in changes.items()
                if "children" in change
            ]
            assert turned, f"nothing happens when {state['description']!r} is moved"
            for widget, pages in turned:
                assert pages != client.widget_state[widget]["children"]
                assert all(page.removeprefix("IPY_MODEL_") in client.widget_state for page in pages)


def test_an_installation_with_its_requirements_replaces_nothing(
    runtime, repository, environment, tmp_path
):
    """As the command of the read-me does it, without ``--no-deps``.

    Colab lacks jedi, which its IPython asks for: pip adds that, and what jedi needs.
    """
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    wheel = [sys.executable, "-m", "pip", "wheel", *options, str(repository)]
    subprocess.run(wheel, check=True, capture_output=True)
    before = versions(runtime)
    install = [runtime, "-m", "pip", "install", "--quiet", *tmp_path.glob("*.whl")]
    done = subprocess.run(install, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = versions(runtime)
    assert "seglab" in after
    asked = {Requirement(line).name for line in metadata.requires("seglab") if "extra" not in line}
    assert {"torch", "torchvision", "numpy", "ipywidgets"} <= asked <= before.keys()
    assert {name: after[name] for name in asked} == {name: before[name] for name in asked}
