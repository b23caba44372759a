"""Look for obstacles on a page, with axe, as readers meet it: light and dark, wide and narrow."""

from pathlib import Path

from playwright.sync_api import Page

SCRIPT = Path(__file__).resolve().parents[2] / ".vendor" / "axe" / "axe.min.js"
THEMES = ("light", "dark")
WIDTHS = (1280, 390)


def obstacles(page: Page) -> list[dict]:
    """Run every rule of axe in both themes at both widths.

    Parameters
    ----------
    page : Page
        Opened in Chromium, in the theme of the system.

    Returns
    -------
    list of dict
        What axe found, each with theme, width, rule and the elements' HTML.
    """
    page.evaluate(SCRIPT.read_text())
    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        page.wait_for_function(f"() => document.documentElement.dataset.theme === '{theme}'")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            # Colors change slowly, and scripts look for what has begun to scroll.
            page.wait_for_timeout(500)
            for violation in page.evaluate("async () => (await axe.run()).violations"):
                where = [node["html"][:200] for node in violation["nodes"]]
                found.append({"theme": theme, "width": width, violation["id"]: where})
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    return found
