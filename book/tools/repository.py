"""Write the repository's address everywhere it stands: ``make repository URL=...``.

``_config.yml`` is the one source. Badges, setup cells, the citation and the commands of the pages
repeat the address, because Colab, pip and GitHub cannot read it from there.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".ci", ".github", "book", "notebooks", "seglab", "tests")
ADDRESS = re.compile(r"https://github\.com/([A-Za-z\d]+(?:-[A-Za-z\d]+)*)/([A-Za-z\d._-]+)")
BRANCH = re.compile(r"\w[\w./-]*")
SOURCE = re.compile(rf"^repository:\n  url: {ADDRESS.pattern}\n  branch: (\S+)$", re.M)


def write(root: Path, url: str, branch: str = "") -> list[Path]:
    """Replace the address of ``_config.yml``, and its branch, in every file.

    Parameters
    ----------
    root : Path
        The repository.
    url : str
        https://github.com/OWNER/NAME; nothing else, because Colab opens nothing else.
    branch : str
        The branch that readers see; by default it stays what it is.

    Returns
    -------
    list of Path
        The files that changed.

    Raises
    ------
    ValueError
        If the address or the branch is malformed.
    """
    found = ADDRESS.fullmatch(url)
    if not found or found[2] in (".", "..") or found[2].endswith(".git"):
        raise ValueError(
            f"URL is {url!r}; expected https://github.com/OWNER/NAME, without .git or a slash at "
            f"the end"
        )
    if branch and not BRANCH.fullmatch(branch):
        raise ValueError(f"BRANCH is {branch!r}; expected the name of a branch, such as main")
    old = address(root)
    new = (found[1], found[2], branch or old[2])
    changed = []
    for path in files(root):
        before = path.read_bytes()
        after = rewritten(before, old, new)
        if after != before:
            path.write_bytes(after)
            changed.append(path)
    return changed


def address(root: Path) -> tuple[str, ...]:
    """Return owner, name and branch as ``_config.yml`` has them."""
    return SOURCE.search((root / "_config.yml").read_text()).groups()


def files(root: Path) -> Iterator[Path]:
    """Yield every file that may hold the address."""
    yield from (path for path in sorted(root.glob("*")) if path.is_file())
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def rewritten(content: bytes, old: tuple[str, ...], new: tuple[str, ...]) -> bytes:
    """Replace (owner, name, branch); everything else stays as it is, byte for byte."""
    owner, name, branch = map(re.escape, old)
    new_owner, new_name, new_branch = new
    # The end of a name: seglab, seglab.git and "seglab." but not seglab-data.
    address = rf"{owner}/{name}(?![\w-]|\.(?!git\b)\w)"
    places = {
        # on GitHub and in Colab's links, first those that name the branch
        rf"(github(?:\.com)?/){address}(/(?:blob|edit|tree|raw)/){branch}(?![\w-])": (
            rf"\g<1>{new_owner}/{new_name}\g<2>{new_branch}"
        ),
        rf"(github(?:\.com)?/){address}": rf"\g<1>{new_owner}/{new_name}",
        # the published book
        address.replace("/", r"(\.github\.io/)", 1): rf"{new_owner}\g<1>{new_name}",
        # the configuration and the workflows
        rf"(?m)^( +branch(?:es: \[|: )){branch}(?=\]?$)": rf"\g<1>{new_branch}",
    }
    text = content.decode("utf-8", "surrogateescape")
    for place, replacement in places.items():
        text = re.sub(place, replacement, text)
    return text.encode("utf-8", "surrogateescape")


def main(url: str = "", branch: str = "") -> None:
    """Write the address and say where."""
    try:
        changed = write(ROOT, url, branch)
    except ValueError as error:
        sys.exit(f"make: {error}; say: make repository URL=https://github.com/OWNER/NAME")
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} files changed; commit them." if changed else "Nothing to change.")


if __name__ == "__main__":
    main(*sys.argv[1:])
