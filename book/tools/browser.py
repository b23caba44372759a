"""Chromium, for what only a browser can draw."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium and close it again.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path  # after `playwright install chromium`
        found = next(filter(None, map(shutil.which, (*NAMES, own))), None)
        if found is None:
            raise FileNotFoundError("Chromium is missing; on Debian: apt-get install chromium")
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # there is none for root
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()
