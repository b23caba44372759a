"""What this build is made of, as Markdown for ``book/status.md``."""

import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from seglab import records, runtime

from .chapters import ROOT, link, plan


def environment() -> str:
    """Say when, from what and with what the book was built."""
    rows = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "profile": runtime.profile(),
        "processor": runtime.processor(),
        **runtime.versions(),
    }
    return "{.facts}\n" + "\n".join(f"{name}\n: {value}\n" for name, value in rows.items())


def commit() -> str:
    """Return the short hash of the commit; it says so if files were changed since."""
    command = ["git", "describe", "--always", "--dirty= with changes", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except OSError:
        return "unknown, git is not installed"
    return answer.stdout.strip() if answer.returncode == 0 else "unknown, this is no git checkout"


def chapter_seconds(executions: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how long every chapter took.

    Parameters
    ----------
    executions : mapping
        Page (``notebooks/04_fcn``) to what myst-nb knows of its execution: ``runtime`` in
        seconds, ``mtime`` as a time stamp. A chapter that has not changed is not run again;
        then both are those of the run whose outputs the page shows.
    """
    rows = []
    for chapter, title in plan().items():
        run = executions.get(f"notebooks/{chapter}")
        if run and run.get("runtime") is not None:
            when = datetime.fromtimestamp(run["mtime"], UTC).strftime("%Y-%m-%d %H:%M")
            name = f"{int(chapter[:2])}. {title}"
            rows.append([link(chapter, name), f"{run['runtime']:.0f}", when])
    if not rows:
        return "No chapter was run in this build."
    total = sum(run.get("runtime") or 0 for run in executions.values())
    rows.append(["all", f"{total:.0f}", ""])
    return _table(["chapter", "seconds", "run at (UTC)"], rows, "l-l")


def recorded_runs() -> str:
    """List the recorded runs: how each is made again, and what it took."""
    rows = []
    for name in records.names():
        record = records.load(name)
        seconds = record.get("seconds", "")
        if isinstance(seconds, dict):
            seconds = sum(seconds.values())
        rows.append(
            [
                f"`{name}`",
                f"`{record['command']}`" if record.get("command") else "",
                _claims(record.get("claims")),
                f"{seconds:.0f}" if seconds != "" else "",
                record.get("hardware") or record.get("processor", ""),
                record.get("date", ""),
            ]
        )
    heads = ["record", "command", "claims that hold", "seconds", "hardware", "date"]
    filled = [i for i in range(len(heads)) if any(row[i] for row in rows)]
    return _table([heads[i] for i in filled], [[row[i] for i in filled] for row in rows])


def _claims(claims: list[dict[str, Any]] | None) -> str:
    return f"{sum(c['holds'] for c in claims)} of {len(claims)}" if claims else ""


def checks() -> str:
    """List the stages of ``make test``, in the Makefile's own words."""
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(r"^STAGES := (.+)$", makefile, re.M)
    if found is None:
        raise ValueError("the Makefile has no line STAGES := ...; the status page reads it")
    lines = []
    for number, stage in enumerate(found[1].split(), 1):
        body = re.search(rf"^{stage}:.*\n((?:\t.*\n|\n)+)", makefile, re.M)
        headlines = re.findall(r"\$\(call headline,(.+)\)", body[1] if body else "")
        words = "; ".join(headlines).replace("$(,)", ",")
        lines.append(f"{number}. `make {stage}`: {words}")
    return "\n".join(lines)


def _table(heads: list[str], rows: list[list[str]], align: str = "") -> str:
    """Return a Markdown table; ``align`` has ``-`` for the columns of numbers."""
    rules = ["--:" if mark == "-" else "---" for mark in align.ljust(len(heads), "l")]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, rules, *rows])
