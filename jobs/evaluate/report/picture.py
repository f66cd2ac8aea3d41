"""A plot of the page as a file of its own, for a README: its colours follow the reader's screen there, too."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).with_name("page.css")
ROOT = re.compile(r":root \{.*?\n *\}", re.DOTALL)
LETTERS = 'svg { font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; background: var(--back) }'


def standalone(svg: str) -> str:
    """The inline SVG of a drawing with the page's own colours in it, light and dark."""
    light, dark = ROOT.findall(PAGE.read_text(encoding="utf-8"))[:2]
    style = f"<style>{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{LETTERS}</style>"
    opening, rest = svg.split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{style}{rest}\n'
