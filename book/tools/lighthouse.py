"""Measure the built book in a browser: ``make lighthouse`` writes book/results/lighthouse.json.

Lighthouse judges two pages on a desktop and on a phone, axe looks for obstacles on all pages. The
site is served on this machine, gzipped as GitHub Pages serves it. Scores and times are medians of
several runs, because one run varies by a few points; a machine that does something else meanwhile
gives a worse score, so the record says how fast it was (``benchmark``, Lighthouse's own unit).
"""

import gzip
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from book.tools import axe
from book.tools.browser import NAMES, chromium
from book.tools.pdf import parts
from seglab import runtime

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "book" / "results" / "lighthouse.json"
PAGES = ("book/index", "notebooks/04_fcn")
FORMS = ("desktop", "mobile")
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
TIMES = ("first-contentful-paint", "largest-contentful-paint", "total-blocking-time")
RUNS = 5
# What GitHub Pages compresses; pictures and fonts are compressed already.
COMPRESSED = {".html", ".css", ".js", ".json", ".svg", ".txt", ".xml"}


@cache
def transferred(path: Path) -> bytes:
    """Return a file as the server sends it."""
    data = path.read_bytes()
    return gzip.compress(data, 6) if path.suffix in COMPRESSED else data


class Handler(SimpleHTTPRequestHandler):
    """Files of a folder, gzipped, over connections that stay open."""

    protocol_version = "HTTP/1.1"

    def send_head(self):
        """Answer with the compressed file; everything else is the base class's."""
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSED or not path.is_file():
            return super().send_head()
        data = transferred(path)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        return io.BytesIO(data)

    def log_message(self, *args):
        """Say nothing."""


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve a folder and yield its address."""
    with ThreadingHTTPServer(("localhost", 0), partial(Handler, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def run(tool: Path, browser: str, address: str, form: str) -> dict:
    """Run Lighthouse once on one page.

    Parameters
    ----------
    tool : Path
        Lighthouse's command.
    browser : str
        Chromium's command.
    address : str
        Of the page.
    form : str
        ``"desktop"`` or ``"mobile"``.

    Returns
    -------
    dict
        Lighthouse's own report.
    """
    flags = "--headless=new --disable-gpu --no-first-run"
    flags += " --no-sandbox" if os.geteuid() == 0 else ""  # there is none for root
    command = ["node", str(tool), address, "--quiet", "--output=json", f"--chrome-flags={flags}"]
    command += [f"--only-categories={','.join(CATEGORIES)}"]
    command += ["--preset=desktop"] if form == "desktop" else []
    report = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"CHROME_PATH": browser},
        timeout=300,
    )
    return json.loads(report.stdout)


def summary(reports: list[dict]) -> dict:
    """Return medians of scores and times, and what the page transferred."""

    def median(value):
        return statistics.median(value(report) for report in reports)

    def audit(name):
        return median(lambda report: report["audits"][name]["numericValue"])

    return {
        "scores": {
            name: round(median(lambda r, name=name: 100 * r["categories"][name]["score"]))
            for name in CATEGORIES
        },
        "milliseconds": {name: round(audit(name)) for name in TIMES},
        "layout_shift": round(audit("cumulative-layout-shift"), 3),
        "transferred_bytes": round(audit("total-byte-weight")),
        "benchmark": round(median(lambda r: r["environment"]["benchmarkIndex"])),
    }


def measure(site: Path, tool: Path) -> dict:
    """Return the whole record of a built site.

    Raises
    ------
    FileNotFoundError
        If a page of ``_toc.yml`` was not built.
    """
    pages = [page for listed in parts().values() for page in listed]
    missing = [page for page in pages if not (site / f"{page}.html").is_file()]
    if missing:
        raise FileNotFoundError(f"{site} has no {', '.join(missing)}; `make book` builds them")
    record: dict = {
        "command": "make lighthouse",
        "date": runtime.today(),
        "processor": runtime.processor(),
        "served": "gzipped, HTTP/1.1, from this machine",
        "runs": RUNS,
        "lighthouse": {},
        "axe": {"themes": axe.THEMES, "widths": axe.WIDTHS, "violations": {}},
    }
    with serve(site) as address:
        with chromium() as browser:
            names = (*NAMES, browser.browser_type.executable_path)
            executable = next(filter(None, map(shutil.which, names)))
            record["versions"] = {"chromium": browser.version}
            for page in pages:
                tab = browser.new_page()
                tab.goto(f"{address}/{page}.html", wait_until="networkidle")
                record["axe"]["violations"][page] = axe.obstacles(tab)
                record["versions"]["axe"] = tab.evaluate("() => axe.version")
                tab.close()
        for page in PAGES:
            for form in FORMS:
                url = f"{address}/{page}.html"
                reports = [run(tool, executable, url, form) for _ in range(RUNS)]
                record["lighthouse"][f"{page}, {form}"] = summary(reports)
                record["versions"]["lighthouse"] = reports[0]["lighthouseVersion"]
                print(page, form, summary(reports)["scores"], flush=True)
    return record


def main() -> None:
    """Measure the book that `make book` built."""
    site, tool = map(Path, sys.argv[1:])
    record = measure(site, tool)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(f"Written: {RESULT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
