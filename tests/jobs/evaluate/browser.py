"""A page in headless Chromium, asked what it looks like there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
ASKED = """<script>
const root = document.documentElement;
const letters = [...document.querySelectorAll("svg text")].map(each => each.getBoundingClientRect().height);
document.title = JSON.stringify({
  wide: root.scrollWidth, window: innerWidth, tall: root.scrollHeight, lowest: Math.min(...letters),
  back: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
  loaded: performance.getEntriesByType("resource").length,
});
</script></body>"""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')  # forbids the question, too


def browser() -> str | None:
    """The first Chromium on the path."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def looked_at(page: str, folder: Path, *, width: int, dark: bool = False) -> dict:
    """Measures of the page in a window of so many pixels."""
    asked = folder / f"asked-{width}.html"
    asked.write_text(POLICY.sub("", page).replace("</body>", ASKED), encoding="utf-8")
    colours = ["--blink-settings=preferredColorScheme=0"] if dark else []
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    command = [browser(), *flags, *colours, f"--window-size={width},900", asked.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(unescape(re.search("<title>(.*?)</title>", dumped)[1]))
