"""Build an environment like Colab's: run by ``make colab``, again when image.txt changes.

It holds the packages of image.txt, in Colab's versions, which are not the book's. A few are stood
in for, because torch and what belongs to it weigh 5 GB: the book's own files answer to the names
of torch, torchvision and triton, under Colab's version numbers. The number is what pip decides
by when it asks whether a package has to be replaced. Whether a chapter runs with the very torch
of Colab cannot be seen this way; ``--real`` installs that too, where there is room for it.
"""

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PACKAGES = Path(__file__).with_name("image.txt")
STOOD_IN = ("notebook", "torch", "torchvision", "triton")

GOOGLE_COLAB = '"""A stand-in: a notebook knows Colab by this module being loaded."""\n'


def requirements() -> list[str]:
    """Return the lines of image.txt that name a package."""
    lines = PACKAGES.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def site_packages(environment: Path) -> Path:
    """Return the folder that packages of an environment are installed in."""
    return Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)}))


def install(environment: Path, *what: str) -> None:
    """Install wheels into another environment with the book's pip."""
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python")]
    options = ["--quiet", "--disable-pip-version-check", "--retries", "1"]
    command = [*pip, "install", *options, "--only-binary", ":all:", *what]
    subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True)


def stand_in(name: str, version: str, folder: Path) -> None:
    """Let the book's files of a package, if it has any, be found in `folder` by this version."""
    try:
        book = importlib.metadata.distribution(name)
        names = {path.parts[0] for path in book.files or ()}
    except importlib.metadata.PackageNotFoundError:
        names = set()
    for top in names:
        if top != ".." and not top.endswith(".dist-info"):
            (folder / top).symlink_to(Path(str(book.locate_file(top))).resolve())
    facts = folder / f"{name}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (facts / "INSTALLER").write_text("pip\n")
    (facts / "RECORD").touch()


def build(environment: Path, *, real: bool = False) -> None:
    """Make the environment anew."""
    venv.create(environment, clear=True, symlinks=True)
    folder = site_packages(environment)
    install(environment, "--no-deps", *(r for r in requirements() if not r.startswith(STOOD_IN)))
    if real:
        install(environment, *(r.split("+")[0] for r in requirements() if r.startswith("torch")))
    for name, version in (r.split("==") for r in requirements() if r.startswith(STOOD_IN)):
        if not (real and name.startswith("t")):
            stand_in(name, version, folder)
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").write_text(GOOGLE_COLAB)


def main() -> None:
    """Build; where that is impossible leave nothing behind, and the tests are skipped."""
    environment = Path(sys.argv[1])
    try:
        build(environment, real="--real" in sys.argv)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(environment)
        reason = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
        print(f"make: no environment like Colab's; is there a network? {' '.join(reason)}")


if __name__ == "__main__":
    main()
