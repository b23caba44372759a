"""Pack the built book into a zip with its checksum beside it: ``make dist``.

The same site gives the same bytes: names are sorted, and no time or owner is kept.
"""

import hashlib
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


def pack(site: Path, target: Path) -> str:
    """Write the archive and ``target.sha256``, which ``sha256sum --check`` reads.

    Parameters
    ----------
    site : Path
        The folder that `make book` built.
    target : Path
        The archive; everything in it is in one folder of this name.

    Returns
    -------
    str
        The SHA-256 of the archive.

    Raises
    ------
    FileNotFoundError
        If the folder holds no book.
    """
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"there is no {site / 'index.html'}; `make book` builds it")
    files = [path for path in site.rglob("*") if path.is_file()]
    names = {path.relative_to(site).as_posix(): path for path in files}
    target.parent.mkdir(parents=True, exist_ok=True)
    with ZipFile(target, "w", ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(names):
            if any(part.startswith(".") for part in name.split("/")):
                continue  # what Sphinx keeps for itself
            entry = ZipInfo(f"{target.stem}/{name}")  # of 1980, as every entry without a date
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, names[name].read_bytes())
    checksum = hashlib.sha256(target.read_bytes()).hexdigest()
    target.with_name(f"{target.name}.sha256").write_text(f"{checksum}  {target.name}\n")
    return checksum


def main() -> None:
    """Pack the book that `make book` built."""
    site, target = map(Path, sys.argv[1:])
    try:
        checksum = pack(site, target)
    except FileNotFoundError as error:
        sys.exit(f"make: no archive, because {error}")
    print(f"{target.stat().st_size / 1e6:.1f} MB: {target}\nSHA-256 {checksum}")


if __name__ == "__main__":
    main()
