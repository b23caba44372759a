"""Recorded runs: numbers that took too long, or too many seeds, to be computed in a chapter.

A record is a JSON file in ``book/results``. It names its command, versions, processor and seed,
so that anybody can run it again. Run a chapter with ``SEGLAB_RECORD=FILE`` set and every claim
it checks, and every value it notes, is written to FILE.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from seglab import runtime

_PACKAGE = Path(__file__).parent
# Inside an installed package, or beside it in a checkout.
FOLDERS = (_PACKAGE / "results", _PACKAGE.parent / "book" / "results")

_begun = time.monotonic()


def names() -> list[str]:
    """Return the names of all recorded runs."""
    return sorted({path.stem for folder in FOLDERS for path in folder.glob("*.json")})


def load(name: str) -> dict:
    """Return a recorded run.

    Parameters
    ----------
    name : str
        File name in ``book/results`` without ``.json``.

    Raises
    ------
    FileNotFoundError
        If there is no such record; it lists those that exist.
    """
    for folder in FOLDERS:
        path = folder / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
    raise FileNotFoundError(f"no recorded run is called {name!r}; there are {', '.join(names())}")


def recording() -> Path | None:
    """Return the file that this process records into, or None."""
    path = os.environ.get("SEGLAB_RECORD", "")
    return Path(path) if path else None


def note(**values: Any) -> None:
    """Add values to the record, if one is being made; lists grow, everything else is replaced.

    ``seconds`` is the time from the beginning of the run to its last note.
    """
    path = recording()
    if path is None:
        return
    record = json.loads(path.read_text()) if path.exists() else {}
    record["seconds"] = round(time.monotonic() - _begun)
    for name, value in values.items():
        if isinstance(value, list) and isinstance(record.get(name), list):
            value = record[name] + value
        record[name] = value
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def begin(run: runtime.Runtime) -> None:
    """Start the record anew with what a result depends on."""
    global _begun
    path = recording()
    if path is not None:
        _begun = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        note(
            command=os.environ.get("SEGLAB_COMMAND", ""),
            date=runtime.today(),
            profile=run.profile,
            seed=run.seed,
            dtype=str(run.dtype).removeprefix("torch."),
            processor=runtime.processor(),
            versions=run.versions,
        )
